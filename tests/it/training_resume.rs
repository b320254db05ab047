//! What a run of `paddock sft` leaves as it is: models and runs that are there, checkpoints of other runs, and what other
//! programs find beside a model's weights.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::package_fixture;
use paddock_tests::program::{paddock, refuses, run};
use paddock_tests::sft::{arguments, metrics, sft};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

const MODEL: &str = "model.safetensors";

/// The fixture's run with other and further options.
fn with(output: &Path, further: &str) -> Vec<OsString> {
    let mut all = arguments(output);
    let further: Vec<&str> = further.split_whitespace().collect();
    for option in further.iter().filter(|argument| argument.starts_with("--")) {
        if let Some(at) = all.iter().position(|argument| argument == option) {
            all.drain(at..at + 2);
        }
    }
    all.extend(further.iter().map(OsString::from));
    all
}

fn refused(arguments: &[OsString], words: &[&str]) {
    refuses(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>(), words);
}

/// What a run that succeeds says on standard error.
fn says(arguments: &[OsString]) -> String {
    let output = paddock().args(arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    stderr
}

fn copy(source: &Path, target: &Path) {
    fs::create_dir(target).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
    }
}

/// Names and bytes of all files in a folder and its folders.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

fn checkpoints(output: &Path) -> Vec<String> {
    let names = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("checkpoint")).collect();
    names.sort();
    names
}

#[test]
fn a_model_in_the_runs_folder_is_not_replaced() {
    let folder = TempDir::new().unwrap();
    for name in ["sft", "llama-gqa-tied-sharded", "pytorch-bin", "lora/final"] {
        let output = folder.path().join(name.replace('/', "-"));
        copy(&package_fixture(name), &output);
        let before = contents(&output);
        refused(&with(&output, ""), &["holds a model", "name another output"]);
        refused(&with(&output, "--resume"), &["no checkpoint to go on from"]);
        assert!(before == contents(&output), "{name}");
    }
    // The model's own folder is one, too.
    let own = folder.path().join("sft");
    let before = contents(&own);
    refused(&with(&own, &format!("--model {}", own.display())), &["holds a model"]);
    assert!(before == contents(&own));
}

#[test]
fn a_finished_run_is_not_begun_again() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    run(&as_arguments(&with(&output, "--max-steps 3")));
    let before = contents(&output);
    refused(&with(&output, "--max-steps 6 --resume"), &["max-steps 3, now 6", "--allow-changes"]);
    refused(&with(&output, "--max-steps 6"), &["holds a run"]);
    assert!(before == contents(&output));
    fs::remove_dir_all(output.join("checkpoint-3")).unwrap();
    let before = contents(&output);
    refused(&with(&output, "--max-steps 6 --resume"), &["no checkpoint to go on from", "--model"]);
    assert!(before == contents(&output));
}

fn as_arguments(arguments: &[OsString]) -> Vec<&dyn AsRef<OsStr>> {
    arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect()
}

#[test]
fn a_finished_run_is_extended_and_never_shortened() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    run(&as_arguments(&with(&output, "--max-steps 4 --save-steps 3 --schedule constant")));
    let before = contents(&output);
    assert!(says(&with(&output, "--max-steps 4 --save-steps 3 --schedule constant --resume")).contains("done already"));
    let shorter = "--max-steps 3 --save-steps 3 --schedule constant --resume --allow-changes";
    refused(&with(&output, shorter), &["has learned for 4 steps", "ends after 3"]);
    refused(&with(&output, &shorter.replace("steps 3", "steps 2")), &["ends after 2"]);
    assert!(before == contents(&output));
    let longer = "--max-steps 6 --save-steps 3 --schedule constant --resume";
    refused(&with(&output, longer), &["max-steps 4, now 6", "--allow-changes"]);
    assert!(says(&with(&output, &format!("{longer} --allow-changes"))).contains("changed: max-steps 4, now 6"));
    let steps: Vec<u64> = metrics(&output).iter().map(|metrics| metrics.step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    // As if it had been meant to be that long.
    let whole = folder.path().join("whole");
    run(&as_arguments(&with(&whole, "--max-steps 6 --save-steps 3 --schedule constant")));
    assert!(fs::read(whole.join(MODEL)).unwrap() == fs::read(output.join(MODEL)).unwrap());
    let kept = fs::read_to_string(output.join("settings-1.toml")).unwrap();
    assert!(kept.contains("max-steps = 4"), "{kept}");
}

#[test]
fn stray_files_in_a_checkpoint_do_no_harm() {
    let folder = TempDir::new().unwrap();
    let (whole, output) = (folder.path().join("whole"), folder.path().join("run"));
    sft(&whole, &["--save-steps", "6", "--keep", "2"]);
    copy_run(&whole, &output);
    fs::remove_file(output.join(MODEL)).unwrap();
    fs::remove_dir_all(output.join("checkpoint-20")).unwrap();
    let checkpoint = output.join("checkpoint-18");
    fs::write(checkpoint.join(".DS_Store"), "").unwrap();
    fs::create_dir(checkpoint.join(".ipynb_checkpoints")).unwrap();
    assert!(says(&with(&output, "--save-steps 1 --keep 1 --resume")).contains("continuing after step 18"));
    assert!(fs::read(whole.join(MODEL)).unwrap() == fs::read(output.join(MODEL)).unwrap());
    assert_eq!(metrics(&output).len(), 20);
    assert_eq!(checkpoints(&output), ["checkpoint-20"]);
}

fn copy_run(source: &Path, target: &Path) {
    for (path, bytes) in contents(source) {
        let path = target.join(path.strip_prefix(source).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_checkpoint_is_named_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    sft(&output, &["--save-steps", "12"]);
    fs::remove_file(output.join(MODEL)).unwrap();
    let damaged = output.join("checkpoint-20/optimizer.safetensors");
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() - 100]).unwrap();
    let before = contents(&output);
    refused(
        &with(&output, "--save-steps 12 --resume"),
        &["checkpoint-20", "optimizer.safetensors is not as it was saved"],
    );
    fs::remove_file(output.join("checkpoint-20/hashes.json")).unwrap();
    refused(&with(&output, "--save-steps 12 --resume"), &["checkpoint-20", "hashes.json is missing"]);
    fs::write(
        output.join("checkpoint-20/hashes.json"),
        &before.iter().find(|(path, _)| path.ends_with("hashes.json")).unwrap().1,
    )
    .unwrap();
    assert!(before == contents(&output));
}

/// The newest by what it holds survives, whatever damaged or copied folders are called.
#[test]
fn the_checkpoint_that_was_just_written_stays() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    sft(&output, &["--save-steps", "6", "--keep", "3"]);
    for name in [MODEL, "checkpoint-18/optimizer.safetensors", "checkpoint-20/optimizer.safetensors"] {
        fs::remove_file(output.join(name)).unwrap();
    }
    fs::rename(output.join("checkpoint-12"), output.join("checkpoint-900")).unwrap();
    // It is killed before it comes to an end.
    let says = {
        let arguments = with(&output, "--save-steps 1 --keep 1 --resume");
        let child = paddock().args(arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
        while !output.join("checkpoint-14").exists() && !output.join("checkpoint-15").exists() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let mut child = child;
        child.kill().unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
    };
    assert!(
        says.contains("checkpoint-18: optimizer.safetensors is missing") && says.contains("after step 12"),
        "{says}"
    );
    let left = checkpoints(&output);
    assert!(left.contains(&"checkpoint-900".to_string()), "{left:?}");
    run(&as_arguments(&with(&output, "--save-steps 1 --keep 1 --resume")));
    assert_eq!(metrics(&output).len(), 20);
}

#[test]
fn other_settings_and_other_data_are_no_continuation() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let recipe = "--max-steps 4 --save-steps 2 --keep 3";
    run(&as_arguments(&with(&output, recipe)));
    fs::remove_file(output.join(MODEL)).unwrap();
    fs::remove_dir_all(output.join("checkpoint-4")).unwrap();
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(package_fixture("sft").join("data.json")).unwrap()).unwrap();
    let data = folder.path().join("other.json");
    fs::write(&data, serde_json::to_string(&rows[..5]).unwrap()).unwrap();
    let before = contents(&output);
    let resume = |further: &str| with(&output, &format!("{recipe} {further} --resume"));
    let other = format!("--data {} --batch-size 2 --learning-rate 1e-5 --seed 1", data.display());
    let differs =
        ["batch-size 4, now 2", "learning-rate 0.001, now 0.00001", "seed 42, now 1", "examples of", "other.json"];
    refused(&resume(&other), &differs);
    refused(&resume("--lora-rank 4"), &["trained the whole model", "this run trains adapters"]);
    refused(&resume("--max-length 100"), &["max-length 256, now 100"]);
    assert!(before == contents(&output));
    // The same examples elsewhere are the same examples.
    let moved = folder.path().join("moved.json");
    fs::copy(package_fixture("sft").join("data.json"), &moved).unwrap();
    run(&as_arguments(&resume(&format!("--data {} --micro-batch-tokens 300", moved.display()))));
    assert_eq!(metrics(&output).len(), 4);
}

#[test]
fn adapters_are_continued_as_they_are() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let recipe = "--max-steps 4 --save-steps 2";
    run(&as_arguments(&with(&output, &format!("{recipe} --lora-rank 4 --lora-targets q_proj,o_proj"))));
    fs::remove_file(output.join("adapter_model.safetensors")).unwrap();
    fs::remove_file(output.join("adapter_config.json")).unwrap();
    let before = contents(&output);
    let resume = |further: &str| with(&output, &format!("{recipe} {further} --resume"));
    refused(&resume("--lora-rank 8"), &["another rank"]);
    refused(&resume("--lora-rank 4 --lora-targets q_proj"), &["other targets"]);
    refused(&resume("--lora-rank 4 --lora-alpha 64"), &["alpha 4", "alpha 64"]);
    let plain = folder.path().join("plain.toml");
    let settings = fs::read_to_string(output.join("settings.toml")).unwrap();
    fs::write(&plain, settings.split("[lora]").next().unwrap()).unwrap();
    refused(&resume(&format!("--config {}", plain.display())), &["trained adapters", "the whole model"]);
    assert!(before == contents(&output));
    run(&as_arguments(&resume("")));
    assert!(output.join("adapter_model.safetensors").exists());
}

/// An adapter is a difference to one base.
#[test]
fn another_base_is_no_continuation_of_an_adapter() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let model = changed(folder.path(), |_, _| {});
    let recipe = format!("--max-steps 4 --save-steps 2 --keep 3 --lora-rank 2 --model {}", model.display());
    run(&as_arguments(&with(&output, &recipe)));
    fs::remove_file(output.join("adapter_model.safetensors")).unwrap();
    fs::remove_file(output.join("adapter_config.json")).unwrap();
    fs::remove_dir_all(output.join("checkpoint-4")).unwrap();
    fs::remove_dir_all(&model).unwrap();
    changed(folder.path(), |name, data| {
        if name == "lm_head.weight" {
            data[3] ^= 1;
        }
    });
    let resume = with(&output, &format!("{recipe} --resume"));
    refused(&resume, &["what model names holds something else than before", "--allow-changes"]);
    run(&as_arguments(&with(&output, &format!("{recipe} --resume --allow-changes"))));
}

/// Whoever loads an adapter asks it in the prompt that it was trained on.
#[test]
fn an_adapter_brings_its_prompt_along() {
    let folder = TempDir::new().unwrap();
    let [adapter, merged] = ["run", "merged"].map(|name| folder.path().join(name));
    run(&as_arguments(&with(&adapter, "--max-steps 3 --learning-rate 1e-2 --lora-rank 2")));
    let base = package_fixture("sft");
    let prompt_of = |further: &[&dyn AsRef<OsStr>]| {
        let ask: [&dyn AsRef<OsStr>; 8] =
            [&"generate", &"--device", &"cpu", &"--json", &"--max-tokens", &"1", &"--prompt", &"Hi"];
        let answer: serde_json::Value = serde_json::from_str(&run(&[&ask[..], further].concat())).unwrap();
        answer["prompt_ids"].clone()
    };
    let alpaca = prompt_of(&[&"--model", &base, &"--template", &"alpaca"]);
    assert_ne!(prompt_of(&[&"--model", &base]), alpaca);
    assert_eq!(prompt_of(&[&"--model", &base, &"--adapter", &adapter]), alpaca);
    run(&[&"merge", &"--model", &base, &"--adapter", &adapter, &"--output", &merged]);
    assert_eq!(prompt_of(&[&"--model", &merged]), alpaca);
    // And it is evaluated as it was trained.
    let data = base.join("data.json");
    let evaluate: [&dyn AsRef<OsStr>; 8] =
        [&"eval", &"--json", &"--model", &base, &"--data", &data, &"--device", &"cpu"];
    let with_adapter = run(&[&evaluate[..], &[&"--adapter", &adapter]].concat());
    assert_ne!(run(&evaluate), with_adapter);
    refuses(&[&evaluate[..], &[&"--template", &"none"]].concat(), &["Alpaca's prompt", "--template"]);
}

#[test]
fn a_resumed_run_that_is_not_there_is_said() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("nowhere");
    refuses(&[&"sft", &"--resume", &"--output", &nowhere], &["nowhere holds no run", "--output"]);
}

#[test]
fn a_start_that_fails_leaves_no_folder() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("deep/run");
    let data = folder.path().join("data.json");
    fs::write(&data, "{\"unknown\": 1}").unwrap();
    refused(&with(&output, &format!("--data {}", data.display())), &["data.json, line 1", "unknown"]);
    refused(&with(&output, "--model nothing"), &["nothing"]);
    refused(&with(&output, "--lora-rank 2 --lora-targets nothing"), &["nothing"]);
    assert!(!folder.path().join("deep").exists());
    fs::write(folder.path().join("file"), "").unwrap();
    refused(&with(&folder.path().join("file"), ""), &["is a file"]);
}

/// The model of the fixture with the values of some tensors changed.
fn changed(folder: &Path, change: impl Fn(&str, &mut [u8])) -> PathBuf {
    let model = folder.join("model");
    copy(&package_fixture("sft"), &model);
    let bytes = fs::read(model.join(MODEL)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| (name.to_string(), tensor.shape().to_vec(), tensor.data().to_vec()))
        .collect();
    all.iter_mut().for_each(|(name, _, data)| change(name, data));
    let views = all.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    fs::write(model.join(MODEL), safetensors::serialize(views, None).unwrap()).unwrap();
    model
}

#[test]
fn a_nan_in_the_base_is_named() {
    let folder = TempDir::new().unwrap();
    let name = "model.layers.0.mlp.up_proj.weight";
    let model = changed(folder.path(), |tensor, data| {
        if tensor == name {
            data[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    });
    let output = folder.path().join("run");
    refused(&with(&output, &format!("--model {}", model.display())), &[name, "NaN", "the model is damaged"]);
}

#[test]
fn a_run_that_comes_apart_is_not_saved() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let explodes = "--learning-rate 1e39 --warmup-ratio 0 --schedule constant";
    refused(&with(&output, &format!("{explodes} --save-steps 1")), &["holds NaN or infinity", "lower --learning-rate"]);
    assert_eq!(checkpoints(&output), [""; 0]);
    // These are finite, and too large to go on with.
    let explodes = explodes.replace("1e39", "1e30");
    let output = folder.path().join("large");
    refused(&with(&output, &format!("{explodes} --save-steps 1")), &["in step 2", "start again in another output"]);
    let output = folder.path().join("later");
    refused(&with(&output, &explodes), &["in step", "lower --learning-rate", "start again in another output"]);
    assert!(!output.join(MODEL).exists());
}

/// A copy of the fixture's model as people publish theirs, with more beside the weights.
fn published(folder: &Path) -> PathBuf {
    let model = folder.join("base");
    copy(&package_fixture("sft"), &model);
    let edit = |name: &str, changes: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(model.join(name)).unwrap()).unwrap();
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        fs::write(model.join(name), json.to_string()).unwrap();
    };
    let tokens =
        serde_json::json!({ "pad_token": "</s>", "padding_side": "left", "additional_special_tokens": ["<0x00>"] });
    edit("tokenizer_config.json", tokens);
    edit("generation_config.json", serde_json::json!({ "eos_token_id": [2, 370], "temperature": 0.6 }));
    fs::write(model.join("special_tokens_map.json"), "{\"pad_token\": \"</s>\"}").unwrap();
    fs::write(model.join("chat_template.jinja"), "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")
        .unwrap();
    model
}

#[test]
fn what_is_beside_the_weights_stays() {
    let folder = TempDir::new().unwrap();
    let model = published(folder.path());
    // Conversations in the model's own format; another one would be saved with it.
    let data = folder.path().join("data.json");
    let talk = serde_json::json!([{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Hello." }]);
    fs::write(&data, serde_json::json!([{ "messages": talk }]).to_string()).unwrap();
    let base = format!("--model {} --data {} --max-steps 2", model.display(), data.display());
    let (tuned, adapter, merged) =
        (folder.path().join("tuned"), folder.path().join("adapter"), folder.path().join("merged"));
    run(&as_arguments(&with(&tuned, &format!("{base} --save-steps 1"))));
    run(&as_arguments(&with(&adapter, &format!("{base} --lora-rank 2"))));
    run(&[&"merge", &"--model", &model, &"--adapter", &adapter, &"--output", &merged]);
    let of_tokenizer = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];
    for name in of_tokenizer.into_iter().chain(["generation_config.json"]) {
        let expected = fs::read(model.join(name)).unwrap();
        for folder in [&tuned, &tuned.join("checkpoint-2"), &merged] {
            assert!(fs::read(folder.join(name)).unwrap() == expected, "{} of {}", name, folder.display());
        }
        if of_tokenizer.contains(&name) {
            assert!(fs::read(adapter.join(name)).unwrap() == expected, "{name}");
        }
    }
}

#[test]
fn tokens_that_were_added_are_not_added_again() {
    let folder = TempDir::new().unwrap();
    let model = published(folder.path());
    // It names every token but the one that pads.
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(model.join(name)).unwrap()).unwrap();
        json.as_object_mut().unwrap().remove("pad_token");
        fs::write(model.join(name), json.to_string()).unwrap();
    }
    let (output, second) = (folder.path().join("run"), folder.path().join("second"));
    let recipe = format!("--model {} --max-steps 4 --save-steps 2 --keep 5 --add-missing-tokens", model.display());
    run(&as_arguments(&with(&output, &recipe)));
    let read = |folder: &Path, name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
    };
    let whole = fs::read(output.join(MODEL)).unwrap();
    fs::remove_dir_all(output.join("checkpoint-4")).unwrap();
    fs::remove_file(output.join(MODEL)).unwrap();
    run(&as_arguments(&with(&output, &format!("{recipe} --resume"))));
    assert!(whole == fs::read(output.join(MODEL)).unwrap(), "the resumed weights differ");
    run(&as_arguments(&with(&second, &format!("--model {} --max-steps 1 --add-missing-tokens", output.display()))));
    for folder in [&output, &output.join("checkpoint-2"), &second] {
        assert_eq!(read(folder, "config.json")["vocab_size"], 513);
        assert_eq!(read(folder, "tokenizer_config.json")["pad_token"], "[PAD]");
        assert_eq!(read(folder, "tokenizer_config.json")["padding_side"], "left");
        assert_eq!(read(folder, "special_tokens_map.json")["pad_token"], "[PAD]");
    }
}
