//! The header of a safetensors file: tensor names, types, shapes and where their bytes lie
//! (format: 8 bytes little-endian header length, JSON header, data without holes).

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::Encoding;
use super::first_bytes::{FIRST_BYTES, check_first_bytes, other_format};
use super::source::Source;
use crate::{Error, Result};

/// The longest header that is read, as in the reference implementation.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One tensor of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Name of the tensor.
    pub name: String,
    /// Type in the file's own spelling, as `F32`.
    pub dtype: String,
    /// Dimensions, slowest first.
    pub shape: Vec<u64>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl FileEntry {
    /// The encoding of the values, for the types that weights come in.
    pub fn encoding(&self) -> Option<Encoding> {
        match self.dtype.as_str() {
            "F32" => Some(Encoding::F32),
            "F16" => Some(Encoding::F16),
            "BF16" => Some(Encoding::BF16),
            _ => None,
        }
    }
}

/// Reads the header of `file` by range.
///
/// # Errors
/// When the file is missing, or its header is not one of safetensors or disagrees with the file's length.
pub async fn read_header<S: Source>(source: &S, file: &str) -> Result<Vec<FileEntry>> {
    let size = source.size(file).await?.ok_or_else(|| Error::Missing {
        file: file.to_string(),
        hint: "the folder is incomplete; download the model again".to_string(),
    })?;
    let first = source.read(file, 0..size.min(FIRST_BYTES)).await?;
    check_first_bytes(file, &first)?;
    if size < 8 {
        return Err(Error::format(file, format!("expected a safetensors file, found {size} bytes; download it again")));
    }
    let length = match other_format(&first).filter(|format| !format.contains("safetensors")) {
        Some(format) => {
            return Err(Error::format(
                file,
                format!("expected a safetensors file, found {format}; name it as what it is"),
            ));
        }
        None => header_length(file, first.get(..8).unwrap_or_default(), size)?,
    };
    // What has been read is not read again: a source may be a stream.
    let mut header = first.get(8..).unwrap_or_default().to_vec();
    header.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    let rest = 8 + header.len() as u64..8 + length;
    if !rest.is_empty() {
        header.append(&mut source.read(file, rest).await?);
    }
    parse(file, &header, size)
}

/// The header's length from the first eight bytes of a file of `size` bytes.
fn header_length(file: &str, prefix: &[u8], size: u64) -> Result<u64> {
    let prefix: [u8; 8] =
        prefix.try_into().map_err(|_| Error::format(file, "expected 8 bytes of header length, found fewer"))?;
    let length = u64::from_le_bytes(prefix);
    let limit = MAX_HEADER_BYTES.min(size.saturating_sub(8));
    if length > limit {
        return Err(Error::format(
            file,
            format!(
                "its header claims {length} bytes, expected at most {limit}; this is no safetensors file, or it is truncated"
            ),
        ));
    }
    Ok(length)
}

/// Parses `header`, the JSON of a safetensors file of `size` bytes in all.
///
/// # Errors
/// When it is not JSON of the right form, names a tensor twice, or its tensors overlap, leave holes, have a length that
/// their shape contradicts, or do not end where the file ends.
pub fn parse(file: &str, header: &[u8], size: u64) -> Result<Vec<FileEntry>> {
    let Header(raw) = serde_json::from_slice(header)
        .map_err(|error| Error::format(file, format!("its safetensors header is not valid: {error}")))?;
    let start = 8 + header.len() as u64;
    let mut entries = Vec::with_capacity(raw.len());
    let mut names = HashSet::new();
    for (name, tensor) in &raw {
        if !names.insert(name.as_str()) {
            return Err(Error::format(file, format!("tensor {name} is listed twice")));
        }
        entries.push(entry(file, name, tensor, start)?);
    }
    entries.sort_by_key(|entry| (entry.offset, entry.bytes));
    let mut end = start;
    for entry in &entries {
        if entry.offset != end {
            let what = if entry.offset < end { "overlaps the tensor before it" } else { "leaves a hole before it" };
            return Err(Error::format(file, format!("tensor {} {what}", entry.name)));
        }
        end += entry.bytes;
    }
    if end != size {
        return Err(Error::format(
            file,
            format!(
                "its header describes {end} bytes, found {size}; the file is truncated or damaged, download it again"
            ),
        ));
    }
    Ok(entries)
}

fn entry(file: &str, name: &str, tensor: &RawEntry, start: u64) -> Result<FileEntry> {
    let wrong = |problem: String| Error::format(file, format!("tensor {name}: {problem}"));
    let [begin, end] = tensor.data_offsets;
    let bytes = end.checked_sub(begin).ok_or_else(|| wrong(format!("its bytes end at {end}, before {begin}")))?;
    let offset = start.checked_add(begin).filter(|offset| offset.checked_add(bytes).is_some());
    let offset = offset.ok_or_else(|| wrong(format!("its bytes {begin} to {end} are beyond any file")))?;
    if let Some(width) = value_bytes(&tensor.dtype) {
        let needed = tensor.shape.iter().try_fold(width, |product, &dimension| product.checked_mul(dimension));
        if needed != Some(bytes) {
            return Err(wrong(format!("{} of shape {:?} cannot take {bytes} bytes", tensor.dtype, tensor.shape)));
        }
    }
    Ok(FileEntry { name: name.to_string(), dtype: tensor.dtype.clone(), shape: tensor.shape.clone(), offset, bytes })
}

/// Bytes of one value, for the types whose values are whole bytes.
fn value_bytes(dtype: &str) -> Option<u64> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        "F16" | "BF16" | "I16" | "U16" => Some(2),
        "F32" | "I32" | "U32" => Some(4),
        "F64" | "I64" | "U64" => Some(8),
        _ => None,
    }
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The JSON object as a list, so that duplicate names are noticed.
struct Header(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(header: &str, data: u64) -> String {
        parse("m.safetensors", header.as_bytes(), 8 + header.len() as u64 + data).unwrap_err().to_string()
    }

    #[test]
    fn a_good_header_is_read() {
        let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[8,14]},
            "a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
        let start = 8 + header.len() as u64;
        let entries = parse("m", header.as_bytes(), start + 14).unwrap();
        assert_eq!(entries[0].name, "a");
        assert_eq!((entries[1].offset, entries[1].bytes), (start + 8, 6));
        assert_eq!(entries[1].encoding(), Some(Encoding::F16));
    }

    #[test]
    fn hostile_header_length_beyond_the_file() {
        assert!(header_length("m", &u64::MAX.to_le_bytes(), 1000).unwrap_err().to_string().contains("at most 992"));
        assert!(header_length("m", &200_000_000u64.to_le_bytes(), 1 << 40).is_err());
        assert_eq!(header_length("m", &992u64.to_le_bytes(), 1000).unwrap(), 992);
    }

    #[test]
    fn hostile_duplicate_name() {
        let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(refused(header, 8).contains("listed twice"));
    }

    #[test]
    fn hostile_overlapping_tensors() {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        assert!(refused(header, 12).contains("overlaps"));
    }

    #[test]
    fn hostile_hole_between_tensors() {
        let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(refused(header, 8).contains("hole"));
    }

    #[test]
    fn hostile_overflowing_offsets_and_shapes() {
        let max = u64::MAX;
        let offsets = format!(r#"{{"a":{{"dtype":"Q","shape":[1],"data_offsets":[{},{max}]}}}}"#, max - 4);
        assert!(refused(&offsets, 4).contains("beyond any file"));
        let shape = format!(r#"{{"a":{{"dtype":"F32","shape":[{max},{max}],"data_offsets":[0,4]}}}}"#);
        assert!(refused(&shape, 4).contains("cannot take"));
        let backwards = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#;
        assert!(refused(backwards, 4).contains("before"));
    }

    #[test]
    fn hostile_mis_sized_tensor() {
        assert!(
            refused(r#"{"a":{"dtype":"F16","shape":[3],"data_offsets":[0,8]}}"#, 8).contains("cannot take 8 bytes")
        );
    }

    #[test]
    fn hostile_truncated_data() {
        assert!(refused(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 3).contains("truncated"));
    }

    #[test]
    fn hostile_json() {
        for header in
            ["", "[]", "{\"a\":1}", "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "\u{0}"]
        {
            assert!(refused(header, 0).contains("not valid"), "{header}");
        }
    }

    #[test]
    fn types_have_their_width() {
        for (width, dtypes) in [(1, ["U8", "F8_E4M3"]), (2, ["BF16", "I16"]), (4, ["F32", "U32"]), (8, ["F64", "I64"])]
        {
            assert_eq!(dtypes.map(value_bytes), [Some(width); 2]);
        }
        assert_eq!(value_bytes("F4"), None);
    }

    #[test]
    fn a_list_in_the_header_s_place_is_told_from_an_object() {
        assert!(refused("[]", 0).contains("expected an object of tensors"));
    }

    #[test]
    fn a_length_alone_is_read_and_less_is_not() {
        let refused = |count: usize| {
            let source = super::super::MemorySource { files: [("m".to_string(), vec![0; count])].into() };
            pollster::block_on(read_header(&source, "m")).unwrap_err().to_string()
        };
        assert!(refused(7).contains("found 7 bytes"));
        assert!(refused(8).contains("header is not valid"));
    }
}
