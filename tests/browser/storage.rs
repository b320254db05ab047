//! Models that are kept: downloads that go on at the exact byte, damaged shards, a full storage, ways in, and a device
//! that fails in the middle of an answer.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::weights::Encoding;
use paddock_tests::gguf::GgufFile;
use paddock_tests::page::{Answer, PATIENCE, Page};
use paddock_tests::site::TestSite;
use serde_json::{Value, json};
use xtask::server::Fault;

const TOKENS: usize = 12;
const PROMPT: &str = "The cat";
/// After so many bytes this test's connections break, one after the other.
const CUTS: [u64; 24] = [
    1, 7, 511, 4_096, 9_999, 20_000, 33_333, 65_535, 12_347, 31, 23_456, 17, 40_961, 8_191, 8_193, 27_182, 31_415,
    16_180, 14_142, 17_320, 26_457, 22_360, 57_721, 1_618,
];

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha")
}

fn site(faults: &[(&str, Fault)]) -> Option<TestSite> {
    TestSite::start(&[("tiny", &tiny())], faults)
}

fn tiny_page() -> Option<Page> {
    Page::open(site(&[])?, "model=tiny&device=cpu&autoload=1")
}

fn ask(page: &Page) -> Answer {
    page.go_to("chat");
    // Chats are kept from one visit to the next.
    page.click("new-chat");
    page.set_greedy("none", TOKENS);
    page.ask(PROMPT)
}

/// Waits until these folders lie in the storage; gives their bytes.
fn wait_for_kept(page: &Page, count: usize) -> Vec<f32> {
    page.go_to("models");
    page.wait_for_numbers("kept", "data-bytes", count)
}

/// The bytes of the shard in the page's storage.
fn stored_shard(page: &Page) -> Value {
    page.browser.evaluate_async(
        "const done = arguments[0];
         (async () => {
             const models = await (await navigator.storage.getDirectory()).getDirectoryHandle('models');
             for await (const folder of models.values()) {
                 const file = await (await folder.getFileHandle('shard-00001.safetensors')).getFile();
                 const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await file.arrayBuffer()));
                 return [...digest].map(byte => byte.toString(16).padStart(2, '0')).join('');
             }
         })().then(done, error => done(String(error)));",
    )
}

fn expected_shard(page: &Page) -> String {
    let manifest = fs::read(page.site().models().join("tiny/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["shards"][0]["sha256"].as_str().unwrap().to_string()
}

#[test]
fn a_download_goes_on_at_the_exact_byte_after_cuts() {
    let Some(site) = site(&[(".safetensors", Fault::Cut(&CUTS))]) else { return };
    let Some(page) = Page::open(site, "model=tiny&device=cpu&autoload=1") else { return };
    page.wait_for("ready");
    assert_eq!(stored_shard(&page), json!(expected_shard(&page)));
    // Each request begins where the bytes that had come ended, and so none is fetched twice.
    let ranges = page.site().ranges(".safetensors");
    assert_eq!(ranges.len(), CUTS.len() + 1);
    for (pair, cut) in ranges.windows(2).zip(CUTS) {
        assert!(pair[0].start <= pair[1].start && pair[1].start <= pair[0].start + cut, "{ranges:?}");
    }
}

#[test]
fn a_download_goes_on_after_a_reload() {
    let Some(site) = site(&[(".safetensors", Fault::Stalled(300_000))]) else { return };
    let Some(page) = Page::open(site, "model=tiny&device=cpu&autoload=1") else { return };
    page.browser.wait("the beginning", PATIENCE, |_| {
        let progress = page.site().ranges(".safetensors");
        (!progress.is_empty()).then_some(())
    });
    // A part that is on its way is written as it comes.
    page.browser.wait("the part", PATIENCE, |browser| {
        let size = browser.evaluate_async(
            "const done = arguments[0];
             (async () => {
                 const models = await (await navigator.storage.getDirectory()).getDirectoryHandle('models');
                 for await (const folder of models.values())
                     return (await (await folder.getFileHandle('shard-00001.safetensors')).getFile()).size;
             })().then(done, () => done(0));",
        );
        (size.as_u64() == Some(300_000)).then_some(())
    });
    page.site().repair();
    page.visit("model=tiny&device=cpu");
    page.wait_for("empty");
    page.go_to("models");
    page.wait_for_text("kept", |text| text.contains("are here"));
    page.click("load-button");
    page.wait_for("ready");
    assert_eq!(page.site().ranges(".safetensors").last().map(|range| range.start), Some(300_000));
    assert_eq!(stored_shard(&page), json!(expected_shard(&page)));
}

/// Has each worker say again and again how many bytes of one response it has read at most.
const COUNT_BYTES: &str = "
    let most = 0;
    const counts = new WeakMap(), channel = new BroadcastChannel('bytes'), worker = Math.random();
    const read = ReadableStreamDefaultReader.prototype.read;
    ReadableStreamDefaultReader.prototype.read = async function () {
        const result = await read.call(this);
        counts.set(this, (counts.get(this) ?? 0) + (result.value?.length ?? 0));
        most = Math.max(most, counts.get(this));
        return result;
    };
    setInterval(() => channel.postMessage([worker, most]), 50);";

#[test]
fn a_model_that_two_tabs_load_is_kept_by_one() {
    let Some(site) = site(&[(".safetensors", Fault::Stalled(300_000))]) else { return };
    let site = site.with_worker_script(COUNT_BYTES);
    let Some(page) = Page::open(site, "model=tiny&device=cpu&autoload=1") else { return };
    let asked = |count| {
        page.browser
            .wait("the requests", PATIENCE, |_| (page.site().ranges(".safetensors").len() >= count).then_some(()));
    };
    asked(1);
    let first = page.browser.tab();
    page.browser.open_tab();
    page.visit("model=tiny&device=cpu&autoload=1");
    // The second tab leaves the folder to the first and reads the model for itself.
    asked(2);
    page.browser.evaluate(
        "window.bytes = new Map();
         new BroadcastChannel('bytes').onmessage = ({ data }) => window.bytes.set(...data);",
    );
    page.browser.wait("what both have read", PATIENCE, |browser| {
        let read = browser.evaluate("return [...window.bytes.values()]");
        (read == json!([300_000, 300_000])).then_some(())
    });
    // Now both connections break. Only what is kept goes on by itself.
    page.site().repair();
    assert!(page.wait_for_error().contains("the connection was lost after 300.0 kB"));
    page.click("dismiss");
    page.browser.switch_to(&first);
    page.wait_for("ready");
    let answer = ask(&page);
    page.browser.open_tab();
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    assert_eq!(ask(&page), answer);
    assert_eq!(page.site().ranges(".safetensors").len(), 3);
    assert_eq!(stored_shard(&page), json!(expected_shard(&page)));
    wait_for_kept(&page, 1);
}

#[test]
fn a_file_that_has_changed_is_fetched_from_its_beginning() {
    let Some(site) = site(&[(".safetensors", Fault::Stalled(300_000))]) else { return };
    let Some(page) = Page::open(site, "model=tiny&device=cpu&autoload=1") else { return };
    page.browser.wait("the beginning", PATIENCE, |_| (!page.site().ranges(".safetensors").is_empty()).then_some(()));
    page.site().repair();
    // The same bytes with another tag.
    let shard = page.site().models().join("tiny/shard-00001.safetensors");
    let bytes = fs::read(&shard).unwrap();
    fs::remove_file(&shard).unwrap();
    fs::write(&shard, bytes).unwrap();
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    assert_eq!(stored_shard(&page), json!(expected_shard(&page)));
}

#[test]
fn a_shard_that_was_damaged_on_its_way_is_fetched_once_more() {
    let Some(site) = site(&[(".safetensors", Fault::CorruptedOnce(20_000))]) else { return };
    let Some(page) = Page::open(site, "model=tiny&device=cpu&autoload=1") else { return };
    page.wait_for("ready");
    assert_eq!(page.site().ranges(".safetensors").len(), 2);
    assert_eq!(stored_shard(&page), json!(expected_shard(&page)));
}

#[test]
fn a_kept_model_is_not_fetched_again_and_can_be_removed() {
    let Some(page) = tiny_page() else { return };
    page.wait_for("ready");
    let answer = ask(&page);
    assert!(wait_for_kept(&page, 1)[0] > 100_000.0);
    page.take_screenshots("library");
    let fetched = page.site().ranges(".safetensors").len();
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    assert_eq!(ask(&page), answer);
    assert_eq!(page.site().ranges(".safetensors").len(), fetched);
    wait_for_kept(&page, 1);
    page.click("remove-button");
    wait_for_kept(&page, 0);
}

/// Where the origin-private file system is missing, the Cache API keeps models.
#[test]
fn a_browser_without_the_file_system_keeps_models_in_its_cache() {
    let Some(site) = site(&[]) else { return };
    let site = site.with_worker_script(
        "StorageManager.prototype.getDirectory = async () => { throw new DOMException('none', 'SecurityError'); };",
    );
    let Some(page) = Page::open(site, "model=tiny&device=cpu&autoload=1") else { return };
    page.wait_for("ready");
    let answer = ask(&page);
    wait_for_kept(&page, 1);
    let fetched = page.site().ranges(".safetensors").len();
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    assert_eq!(ask(&page), answer);
    assert_eq!(page.site().ranges(".safetensors").len(), fetched);
    wait_for_kept(&page, 1);
    page.click("remove-button");
    wait_for_kept(&page, 0);
}

#[test]
fn a_full_storage_is_said_and_the_model_runs_all_the_same() {
    let Some(site) = site(&[]) else { return };
    let Some(page) = Page::open(site, "model=tiny&device=cpu") else { return };
    page.wait_for("empty");
    page.browser.set_quota(&page.site().page(""), 200_000);
    page.click("load-button");
    let sentence = page.wait_for_error();
    assert!(sentence.contains("full") && sentence.contains("not kept"), "{sentence}");
    page.click("dismiss");
    page.wait_for("ready");
    assert_eq!(ask(&page).token_ids.len(), TOKENS);
}

/// Gives a field of files those of a folder of this machine.
fn choose(page: &Page, field: &str, files: &[(String, Vec<u8>)]) {
    let folder = page.site().models().join("given");
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    let field = format!("[data-testid={field}]");
    page.on(&field, 0, "");
    let given = page.browser.evaluate_async(&format!(
        "const done = arguments[0];
         (async () => {{
             const files = new DataTransfer();
             for (const name of {})
                 files.items.add(new File([await (await fetch('models/given/' + name)).arrayBuffer()], name));
             const field = document.querySelector('{field}');
             field.files = files.files;
             field.dispatchEvent(new Event('change', {{ bubbles: true }}));
             return true;
         }})().then(done, error => done(String(error)));",
        json!(names)
    ));
    assert_eq!(given, true);
}

#[test]
fn gguf_files_and_folders_of_this_device_are_packed_and_kept() {
    let Some(page) = tiny_page() else { return };
    page.wait_for("ready");
    let expected = ask(&page);
    page.go_to("models");
    let gguf = GgufFile::from_fixture("llama-mha", |_| Encoding::F32);
    choose(&page, "model-files", &[("tiny.gguf".to_string(), gguf.bytes())]);
    page.wait_for_texts("status-model", &["tiny"]);
    wait_for_kept(&page, 2);
    page.wait_for("ready");
    assert_eq!(ask(&page).token_ids, expected.token_ids);

    page.go_to("models");
    choose(&page, "model-files", &gguf.split(3).files.into_iter().collect::<Vec<_>>());
    page.wait_for_texts("status-model", &["m"]);
    wait_for_kept(&page, 3);
    page.wait_for("ready");
    assert_eq!(ask(&page).token_ids, expected.token_ids);

    page.go_to("models");
    let files = fs::read_dir(tiny()).unwrap().map(|entry| entry.unwrap());
    let files: Vec<(String, Vec<u8>)> = files
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name.ends_with(".json") || name.ends_with(".safetensors"))
        .collect();
    choose(&page, "model-folder", &files);
    wait_for_kept(&page, 4);
    page.wait_for("ready");
    assert_eq!(ask(&page).token_ids, expected.token_ids);
}

#[test]
fn a_folder_that_is_dropped_is_packed_and_kept() {
    let Some(page) = tiny_page() else { return };
    page.wait_for("ready");
    let expected = ask(&page);
    page.browser.drop_paths(&[&tiny()]);
    page.wait_for_texts("status-model", &["llama-mha"]);
    wait_for_kept(&page, 2);
    page.wait_for("ready");
    assert_eq!(ask(&page), expected);
}

#[test]
fn models_at_addresses_are_packed_and_kept() {
    let Some(page) = tiny_page() else { return };
    page.wait_for("ready");
    let expected = ask(&page);
    let given = page.site().models().join("given");
    fs::create_dir_all(given.join("folder")).unwrap();
    fs::write(given.join("odd.gguf"), GgufFile::from_fixture("llama-mha", |_| Encoding::F32).bytes()).unwrap();
    for entry in fs::read_dir(tiny()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, given.join("folder").join(path.file_name().unwrap())).unwrap();
    }
    for (count, address) in ["models/given/odd.gguf", "models/given/folder/"].iter().enumerate() {
        page.go_to("models");
        page.type_text("model-address", address);
        page.click("model-fetch");
        wait_for_kept(&page, count + 2);
        page.wait_for("ready");
        assert_eq!(ask(&page).token_ids, expected.token_ids, "{address}");
    }
    // A pack is kept as it is: this one is there already.
    page.go_to("models");
    page.type_text("model-address", "models/tiny");
    page.click("model-fetch");
    page.wait_for("ready");
    wait_for_kept(&page, 3);
    page.type_text("model-address", "models/nothing.gguf");
    page.click("model-fetch");
    let sentence = page.wait_for_error();
    assert!(sentence.contains("nothing.gguf"), "{sentence}");
}

/// `device.destroy()` in the middle of an answer: the model is loaded onto a new device, what was said is read again, and
/// the answer goes on with the same tokens.
#[test]
fn an_answer_survives_its_device() {
    let Some(site) = site(&[]) else { return };
    let site = site.with_worker_script(
        "self.devices = [];
         const request = GPUAdapter.prototype.requestDevice;
         GPUAdapter.prototype.requestDevice = async function (...parameters) {
             const device = await request.apply(this, parameters);
             self.devices.push(device);
             return device;
         };
         new BroadcastChannel('test').onmessage = () => {
             for (const device of self.devices.splice(0)) device.destroy();
             new BroadcastChannel('done').postMessage(true);
         };",
    );
    let Some(page) = Page::open(site, "model=tiny&device=gpu&autoload=1") else { return };
    page.wait_for("ready");
    page.set_greedy("none", 120);
    let expected = page.ask(PROMPT);
    page.click("new-chat");
    page.set_greedy("none", 120);
    page.send(PROMPT);
    page.wait_for_text("message-assistant", |text| !text.is_empty());
    page.browser.evaluate_async(
        "const done = arguments[0];
         new BroadcastChannel('done').onmessage = () => done(true);
         new BroadcastChannel('test').postMessage(true);",
    );
    let answer = page.wait_for_answer();
    assert_eq!(answer, expected);
    // And the chat goes on.
    assert!(!page.ask("And?").token_ids.is_empty());
}

#[test]
fn a_device_without_memory_is_called_out_of_memory() {
    let Some(site) = site(&[]) else { return };
    let site = site.with_worker_script(
        "const create = GPUDevice.prototype.createBuffer;
         GPUDevice.prototype.createBuffer = function (descriptor) {
             if (descriptor.size > 100000) {
                 const error = new GPUOutOfMemoryError('no room');
                 queueMicrotask(() => this.dispatchEvent(new GPUUncapturedErrorEvent('uncapturederror', { error })));
             }
             return create.call(this, descriptor);
         };",
    );
    let Some(page) = Page::open(site, "model=tiny&device=gpu&autoload=1") else { return };
    let sentence = page.wait_for_error();
    assert!(sentence.contains("out of memory") && sentence.contains("smaller"), "{sentence}");
    page.click("dismiss");
    page.wait_for("empty");
}
