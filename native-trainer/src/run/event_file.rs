//! TensorBoard's event files: TFRecords of `Event` messages with scalar summaries (tensorflow `core/util/event.proto`,
//! `core/framework/summary.proto`, `core/lib/io/record_writer.cc`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// An event file that is being written.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Begins a new event file in `folder`. TensorBoard reads all files of a folder in the order of their names, so a
    /// resumed run adds another.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(folder: &Path) -> Result<Self> {
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = folder.join(format!("events.out.tfevents.{}.{:09}.paddock", begun.as_secs(), begun.subsec_nanos()));
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let mut events = Self { file: file.map_err(Error::path("create", &path))? };
        events.record(&event(begun.as_secs_f64(), 0, Content::Version))?;
        Ok(events)
    }

    /// Says that what follows begins at `step`: TensorBoard drops what older files say of this step and later ones.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin(&mut self, step: u64) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.record(&event(now.as_secs_f64(), step, Content::Start))
    }

    /// Adds a text in Markdown, which TensorBoard shows under `tag`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn note(&mut self, tag: &str, text: &str) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.record(&event(now.as_secs_f64(), 0, Content::Text(tag, text)))
    }

    /// Adds the scalars `values` (tag and value) of a step.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.record(&event(now.as_secs_f64(), step, Content::Scalars(values)))
    }

    fn record(&mut self, message: &[u8]) -> Result<()> {
        self.file.write_all(&record(message))?;
        Ok(())
    }
}

/// The contents of an event.
enum Content<'a> {
    /// The format's version, first in every file.
    Version,
    /// The beginning of a run, or of its continuation.
    Start,
    Text(&'a str, &'a str),
    Scalars(&'a [(&'a str, f64)]),
}

fn event(wall_time: f64, step: u64, content: Content<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    message.push(tag(1, 1));
    message.extend(wall_time.to_le_bytes());
    // Protocol buffers omit zeros.
    if step > 0 {
        message.push(tag(2, 0));
        varint(&mut message, step);
    }
    match content {
        Content::Version => bytes(&mut message, 3, b"brain.Event:2"),
        // SessionLog with the status START.
        Content::Start => bytes(&mut message, 7, &[tag(1, 0), 1]),
        Content::Text(name, text) => {
            let mut value = Vec::new();
            bytes(&mut value, 1, format!("{name}/text_summary").as_bytes());
            // A tensor of one string: the type DT_STRING, the shape [1], the string.
            let mut tensor = vec![tag(1, 0), 7];
            bytes(&mut tensor, 2, &[tag(2, 2), 2, tag(1, 0), 1]);
            bytes(&mut tensor, 8, text.as_bytes());
            bytes(&mut value, 8, &tensor);
            // The plug-in that shows it.
            let mut plugin = Vec::new();
            bytes(&mut plugin, 1, b"text");
            let mut metadata = Vec::new();
            bytes(&mut metadata, 1, &plugin);
            bytes(&mut value, 9, &metadata);
            let mut summary = Vec::new();
            bytes(&mut summary, 1, &value);
            bytes(&mut message, 5, &summary);
        }
        Content::Scalars(values) => {
            let mut summary = Vec::new();
            for (name, value) in values {
                let mut scalar = Vec::new();
                bytes(&mut scalar, 1, name.as_bytes());
                scalar.push(tag(2, 5));
                scalar.extend((*value as f32).to_le_bytes());
                bytes(&mut summary, 1, &scalar);
            }
            bytes(&mut message, 5, &summary);
        }
    }
    message
}

/// Protocol buffers' tag of a field below 16.
fn tag(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn bytes(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(tag(field, 2));
    varint(message, content.len() as u64);
    message.extend_from_slice(content);
}

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [length.as_slice(), &masked_crc(&length).to_le_bytes(), message, &masked_crc(message).to_le_bytes()].concat()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), RFC 3720 appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use paddock_engine::weights::hexadecimal;

    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogues.
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// The records that TensorBoard's own `EventFileWriter` writes for the same events.
    #[test]
    fn records_are_those_of_tensorboard() {
        let version = record(&event(1.5, 0, Content::Version));
        let scalars = record(&event(2.25, 300, Content::Scalars(&[("loss", 0.5), ("grad_norm", 1.25)])));
        assert_eq!(hexadecimal(&version), VERSION);
        assert_eq!(hexadecimal(&scalars), SCALARS);
        assert_eq!(hexadecimal(&record(&event(3.0, 7, Content::Start))), START);
        let text = event(3.0, 0, Content::Text("settings", "    keep = 1\n"));
        assert_eq!(hexadecimal(&record(&text)), TEXT);
    }

    #[test]
    fn files_of_one_folder_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            EventFile::create(folder.path()).unwrap().write(1, &[("loss", 2.0)]).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    const VERSION: &str = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
    const START: &str = "0f000000000000006d532b0909000000000000084010073a02080167edf0c3";
    const TEXT: &str = "4700000000000000bac3fb9b0900000000000008402a3c0a3a0a1573657474696e67732f746578745f73756d6d61727942170807\
        120412020801420d202020206b656570203d20310a4a080a060a047465787433327993";
    const SCALARS: &str = "2d000000000000003c418afb09000000000000024010ac022a1f0a0b0a046c6f7373150000003f0a100a096772\
        61645f6e6f726d150000a03f5a042091";
}
