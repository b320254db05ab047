//! PyTorch's files and Meta's folders: what PyTorch wrote is read bit for bit, and nothing else is read at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use paddock::files::{ModelSource, TorchTensor, read_tensors};
use paddock_engine::Result;
use paddock_engine::backend::{Cpu, Device, Segments};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::{Checkpoint, MemorySource, Source, TensorInfo};
use paddock_tests::{block_on, expected_tensor, fixtures_with, folder_source, largest_difference, package_fixture};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// As in parity.rs.
const LOGITS: f32 = 1e-3;

fn open(path: &Path) -> Result<Checkpoint<ModelSource>> {
    block_on(Checkpoint::open(ModelSource::open(path)?))
}

/// Meta's folders among the fixtures.
fn meta_folders() -> Vec<PathBuf> {
    fixtures_with(&["params.json"])
}

/// Those of Hugging Face's older files.
fn bin_folders() -> Vec<PathBuf> {
    fixtures_with(&["pytorch_model.bin.index.json"])
}

/// The model that the fixture at `folder` was made from.
fn original(folder: &Path) -> PathBuf {
    folder.with_file_name("llama-mha")
}

/// Every tensor of the model at `path`, as it is stored.
fn tensors(path: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut checkpoint = open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let infos: Vec<_> = checkpoint.tensors().cloned().collect();
    let mut read = |info: &TensorInfo| {
        block_on(checkpoint.read_rows(&info.name, 0..info.shape[0])).expect("the rows of an opened model")
    };
    infos
        .iter()
        .map(|info| (info.name.clone(), (format!("{:?} {:?}", info.shape, info.encoding), read(info))))
        .collect()
}

#[test]
fn meta_and_pytorch_folders_are_llama_mha_bit_for_bit() {
    let found = [meta_folders(), bin_folders()].concat();
    assert!(found.len() >= 2, "{found:?}");
    for folder in found {
        let expected = tensors(&original(&folder));
        let tensors = tensors(&folder);
        assert_eq!(tensors.len(), expected.len(), "{}", folder.display());
        for (name, expected) in &expected {
            assert!(tensors[name] == *expected, "{}: {name} differs", folder.display());
        }
    }
}

/// Rows, and bytes that begin and end anywhere, come out as those of the whole file.
#[test]
fn meta_tensors_are_read_at_any_place() {
    for folder in meta_folders() {
        let source = ModelSource::open(&folder).expect("a model");
        let size = block_on(source.size("model.safetensors")).unwrap().expect("weights");
        let whole = block_on(source.read("model.safetensors", 0..size)).unwrap();
        SafeTensors::deserialize(&whole).expect("what the safetensors library reads");
        for start in (0..size).step_by(9973) {
            let end = size.min(start + start % 3011);
            let part = block_on(source.read("model.safetensors", start..end)).unwrap();
            assert!(part == whole[start as usize..end as usize], "{}: {start}..{end}", folder.display());
        }
        assert!(block_on(source.read("model.safetensors", size..size + 1)).is_err());
    }
}

/// The rotary permutation, by what it is for: PyTorch's logits of the same model in Hugging Face's layout.
#[test]
fn meta_models_give_the_reference_logits() {
    for folder in [meta_folders(), bin_folders()].concat() {
        let golden = original(&folder);
        let json: Value = serde_json::from_slice(&fs::read(golden.join("expected.json")).unwrap()).unwrap();
        let ids: Vec<u32> = serde_json::from_value(json["cases"][0]["prompt_ids"].clone()).unwrap();
        let expected = expected_tensor(&golden, "logits.0");
        let mut checkpoint = open(&folder).unwrap();
        let model = block_on(CausalLm::load(&Cpu::with_threads(2), &mut checkpoint, &mut |_| {})).unwrap();
        let backend = model.backend();
        let tokens = backend.tokens(&ids).unwrap();
        let logits = model.forward(&tokens, &Segments::documents(&[ids.len()])).unwrap();
        let logits = block_on(backend.read(&logits)).unwrap();
        let difference = largest_difference(&logits, &expected);
        assert!(difference <= LOGITS, "{}: logits differ by {difference}", folder.display());
    }
}

fn read(source: &MemorySource, file: &str) -> Result<Vec<(TorchTensor, Vec<u8>)>> {
    let tensors = block_on(read_tensors(source, file))?;
    let bytes = |tensor: &TorchTensor| block_on(tensor.read(source, file, 0..tensor.rows()));
    tensors.into_iter().map(|tensor| bytes(&tensor).map(|bytes| (tensor, bytes))).collect()
}

#[test]
fn views_of_shared_storages_are_read_as_pytorch_reads_them() {
    for folder in bin_folders() {
        let source = folder_source(&folder);
        let bytes = &source.files["views.expected.safetensors"];
        let expected = SafeTensors::deserialize(bytes).unwrap();
        for file in ["views.pt", "views-legacy.pt"] {
            let tensors = read(&source, file).unwrap();
            assert_eq!(tensors.len(), expected.len(), "{file}");
            for (tensor, bytes) in tensors {
                let view = expected.tensor(&tensor.name).unwrap();
                let shape: Vec<usize> = tensor.shape.iter().map(|size| *size as usize).collect();
                assert_eq!(shape, view.shape(), "{file}: {}", tensor.name);
                assert_eq!(tensor.dtype, format!("{:?}", view.dtype()), "{file}: {}", tensor.name);
                assert!(bytes == view.data(), "{file}: {} differs", tensor.name);
                for row in 0..tensor.rows() {
                    let length = tensor.row_bytes() as usize;
                    let one = block_on(tensor.read(&source, file, row..row + 1)).unwrap();
                    assert!(one == bytes[row as usize * length..][..length], "{file}: row {row} of {}", tensor.name);
                }
            }
        }
    }
}

#[test]
fn a_hostile_pickle_is_refused_by_name_and_nothing_runs() {
    for folder in bin_folders() {
        let error = read(&folder_source(&folder), "hostile.pt").unwrap_err().to_string();
        assert!(error.contains("hostile.pt") && error.contains("nothing was run"), "{error}");
    }
}

#[test]
fn every_truncation_and_many_damages_are_errors_or_other_numbers() {
    let folder = package_fixture("pytorch-bin");
    let source = folder_source(&folder);
    for file in ["views.pt", "views-legacy.pt", "hostile.pt"] {
        let whole = source.files[file].clone();
        for length in 0..whole.len() {
            let cut = MemorySource { files: BTreeMap::from([(file.to_string(), whole[..length].to_vec())]) };
            assert!(read(&cut, file).is_err(), "{file} cut to {length} bytes");
        }
        for at in 0..whole.len() {
            for value in [0, 0x7F, 0xFF, whole[at] ^ 1] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let damaged = MemorySource { files: BTreeMap::from([(file.to_string(), bytes)]) };
                let _ = read(&damaged, file);
            }
        }
    }
}

/// `meta-2` with other parameters, and without the files `missing`.
fn meta_with(edit: impl FnOnce(&mut Value), missing: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(package_fixture("meta-2")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !missing.iter().any(|missing| name == *missing) {
            fs::copy(&path, folder.path().join(name)).unwrap();
        }
    }
    let path = folder.path().join("params.json");
    let mut params = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut params);
    fs::remove_file(&path).unwrap();
    fs::write(path, params.to_string()).unwrap();
    folder
}

/// The generations of llama.cpp's and transformers' converters.
#[test]
fn meta_s_generations_have_their_own_context_and_ids() {
    for (further, context, bos, eos) in [
        (json!({}), 2048, 1, &[2][..]),
        (json!({ "max_seq_len": 512, "max_batch_size": 32 }), 2048, 1, &[2]),
        (json!({ "norm_eps": 1e-5 }), 4096, 1, &[2]),
        (json!({ "norm_eps": null }), 4096, 1, &[2]),
        (json!({ "norm_eps": 1e-5, "rope_theta": 1_000_000 }), 16_384, 1, &[2]),
        (json!({ "norm_eps": 1e-5, "rope_theta": 500_000.0 }), 8192, 128_000, &[128_001, 128_009]),
    ] {
        let folder =
            meta_with(|params| params.as_object_mut().unwrap().extend(further.as_object().unwrap().clone()), &[]);
        let checkpoint = open(folder.path()).unwrap();
        let config = checkpoint.config();
        let read = (config.max_position_embeddings, config.bos_token_id, config.eos_token_ids.as_slice());
        assert_eq!(read, (context, Some(bos), eos), "{further}");
    }
}

#[test]
fn a_missing_shard_of_meta_s_is_named() {
    for missing in ["consolidated.00.pth", "consolidated.01.pth"] {
        let error = open(meta_with(|_| {}, &[missing]).path()).unwrap_err().to_string();
        assert!(error.starts_with(missing) && error.contains("not found"), "{error}");
    }
}

#[test]
fn parts_of_a_bin_model_need_no_index_and_a_single_file_goes_before_one() {
    let expected = tensors(&package_fixture("pytorch-bin"));
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(package_fixture("pytorch-bin")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::remove_file(folder.path().join("pytorch_model.bin.index.json")).unwrap();
    assert_eq!(tensors(folder.path()), expected);
    fs::remove_file(folder.path().join("pytorch_model-00002-of-00002.bin")).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("pytorch_model-00002-of-00002.bin was not found"), "{error}");
}
