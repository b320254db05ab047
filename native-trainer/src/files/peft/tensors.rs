//! The tensors of an adapter: `adapter_model.safetensors`, or `adapter_model.bin` of older versions of PEFT.

use std::path::Path;

use paddock_engine::weights::safetensors::{FileEntry, read_header};
use paddock_engine::weights::{Encoding, Source, dequantize};

use crate::files::torch::{TorchTensor, read_tensors};
use crate::files::{ADAPTER_WEIGHTS, FolderSource};
use crate::{Error, Result};

const ADAPTER_BIN: &str = "adapter_model.bin";
/// What stands before the names of modules.
const PREFIX: &str = "base_model.model.";

/// What a tensor is to its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The first factor.
    LoraA,
    /// The second factor.
    LoraB,
    /// Lengths of the rows (DoRA).
    Magnitude,
    /// A weight that was trained, or saved, as a whole.
    Weight,
    /// A bias that was trained as a whole.
    Bias,
}

/// The ends of names, and what they are. PEFT leaves out an adapter's own name, "default", when it saves.
const PARTS: [(&str, Part); 16] = [
    (".lora_A.weight", Part::LoraA),
    (".lora_A.default.weight", Part::LoraA),
    (".lora_embedding_A", Part::LoraA),
    (".lora_embedding_A.default", Part::LoraA),
    (".lora_B.weight", Part::LoraB),
    (".lora_B.default.weight", Part::LoraB),
    (".lora_embedding_B", Part::LoraB),
    (".lora_embedding_B.default", Part::LoraB),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_magnitude_vector.default.weight", Part::Magnitude),
    (".modules_to_save.default.weight", Part::Weight),
    (".modules_to_save.weight", Part::Weight),
    (".base_layer.weight", Part::Weight),
    (".base_layer.bias", Part::Bias),
    (".weight", Part::Weight),
    (".bias", Part::Bias),
];

/// An adapter's tensors, whose values are read when they are asked for.
#[derive(Debug)]
pub(super) struct AdapterTensors {
    source: FolderSource,
    file: &'static str,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    module: String,
    part: Part,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Safetensors(FileEntry),
    Torch(TorchTensor),
}

impl AdapterTensors {
    /// The tensors in `folder`.
    ///
    /// # Errors
    /// When there are none, the file is damaged, or a tensor is of no known kind.
    pub async fn open(folder: &Path) -> Result<Self> {
        let source = FolderSource::open(folder)?;
        let (file, places) =
            if source.size(ADAPTER_WEIGHTS).await?.is_none() && source.size(ADAPTER_BIN).await?.is_some() {
                let tensors = read_tensors(&source, ADAPTER_BIN).await?.into_iter();
                (ADAPTER_BIN, tensors.map(|tensor| (tensor.name.clone(), Place::Torch(tensor))).collect::<Vec<_>>())
            } else {
                let entries = read_header(&source, ADAPTER_WEIGHTS).await?.into_iter();
                (ADAPTER_WEIGHTS, entries.map(|entry| (entry.name.clone(), Place::Safetensors(entry))).collect())
            };
        let mut entries = Vec::with_capacity(places.len());
        for (name, place) in places {
            let path = name.strip_prefix(PREFIX).unwrap_or(&name);
            let known = PARTS.iter().find_map(|(end, part)| Some((path.strip_suffix(end)?.to_string(), *part)));
            let Some((module, part)) = known else {
                return Err(Error::Request(format!(
                    "{file}: {name} is no tensor of a LoRA adapter that Paddock knows; merge this adapter with PEFT"
                )));
            };
            entries.push(Entry { name, module, part, place });
        }
        Ok(Self { source, file, entries })
    }

    /// Each tensor's module and what it is to it.
    pub fn parts(&self) -> impl Iterator<Item = (&str, Part)> {
        self.entries.iter().map(|entry| (entry.module.as_str(), entry.part))
    }

    /// Whether the adapter of `module` is an embedding's.
    pub fn is_embedding(&self, module: &str) -> bool {
        self.find(module, Part::LoraA).is_some_and(|entry| entry.name.contains(".lora_embedding_A"))
    }

    fn find(&self, module: &str, part: Part) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.module == module && entry.part == part)
    }

    /// The error for a module, after the adapter's name of it.
    pub fn wrong(&self, module: &str, problem: &str) -> Error {
        Error::Request(format!("{}: {module} {problem}", self.file))
    }

    /// Whether a module has such a tensor.
    pub fn has(&self, module: &str, part: Part) -> bool {
        self.find(module, part).is_some()
    }

    /// How many rows a module's tensor has, if it has such a tensor.
    pub fn rows(&self, module: &str, part: Part) -> Option<usize> {
        let shape = match &self.find(module, part)?.place {
            Place::Safetensors(entry) => &entry.shape,
            Place::Torch(tensor) => &tensor.shape,
        };
        usize::try_from(*shape.first()?).ok()
    }

    /// The values of a module's tensor; one row may also be stored as a vector.
    ///
    /// # Errors
    /// When it is missing, has another shape, or does not hold floats.
    pub async fn read(&self, module: &str, part: Part, shape: [usize; 2]) -> Result<Vec<f32>> {
        let Some(Entry { name, place, .. }) = self.find(module, part) else {
            return Err(self.wrong(module, &format!("lacks its {part:?}; the adapter is incomplete")));
        };
        let (dtype, stored) = match place {
            Place::Safetensors(entry) => (entry.dtype.as_str(), &entry.shape),
            Place::Torch(tensor) => (tensor.dtype, &tensor.shape),
        };
        let encoding = match dtype {
            "F32" => Some(Encoding::F32),
            "F16" => Some(Encoding::F16),
            "BF16" => Some(Encoding::BF16),
            _ => None,
        };
        let [rows, columns] = shape.map(|size| size as u64);
        let fits = *stored == [rows, columns] || rows == 1 && *stored == [columns];
        let (Some(encoding), true) = (encoding, fits) else {
            return Err(Error::Request(format!(
                "{}: {name} is {dtype} of shape {stored:?}, expected floats of shape {shape:?}; the adapter is of another model",
                self.file
            )));
        };
        let bytes = match place {
            Place::Safetensors(entry) => self.source.read(self.file, entry.offset..entry.offset + entry.bytes).await?,
            Place::Torch(tensor) => tensor.read(&self.source, self.file, 0..tensor.rows()).await?,
        };
        let mut values = vec![0.0; shape.iter().product()];
        dequantize(encoding, &bytes, &mut values)?;
        Ok(values)
    }
}
