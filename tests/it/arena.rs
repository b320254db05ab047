//! `paddock arena`: two models on the same prompts.

use std::fs;

use paddock_tests::package_fixture;
use paddock_tests::program::{refuses, run};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn a_model_ties_with_itself_and_the_report_stands_alone() {
    let folder = TempDir::new().unwrap();
    let (prompts, output) = (folder.path().join("prompts.jsonl"), folder.path().join("report"));
    fs::write(&prompts, "{\"prompt\": \"Say hello.\"}\n{\"prompt\": \"Name a <b>fruit</b>.\"}\n").unwrap();
    let models = package_fixture("ppo-iteration");
    let (actor, reward, cost) = (models.join("actor"), models.join("reward-model"), models.join("cost-model"));
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"arena", &"--red", &actor, &"--blue", &actor];
    all.extend([
        &"--prompts" as &dyn AsRef<std::ffi::OsStr>,
        &prompts,
        &"--output",
        &output,
        &"--template",
        &"safe-rlhf",
    ]);
    all.extend([&"--reward-model" as &dyn AsRef<std::ffi::OsStr>, &reward, &"--cost-model", &cost]);
    all.extend([&"--max-new-tokens" as &dyn AsRef<std::ffi::OsStr>, &"6", &"--device", &"cpu", &"--threads", &"1"]);
    run(&all);
    let report: Value = serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap();
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    // Both draw with the same noise.
    assert!(rounds.iter().all(|round| round["red"] == round["blue"]), "{report}");
    assert_eq!(report["summary"]["ties"], 2);
    assert_eq!(report["summary"]["blue_wins"]["count"], 0);
    let page = fs::read_to_string(output.join("report.html")).unwrap();
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>") && !page.contains("http") && !page.contains("<script"));
    assert!(fs::read_to_string(output.join("table.csv")).unwrap().starts_with("Prompt,"));
    refuses(&all, &["is there already"]);
}

/// Adapters with a head score on the trunk that the first model is.
#[test]
fn score_models_may_be_adapters() {
    let folder = TempDir::new().unwrap();
    let (prompts, output) = (folder.path().join("prompts.jsonl"), folder.path().join("report"));
    fs::write(&prompts, "{\"prompt\": \"Say hello.\"}\n").unwrap();
    let roles = package_fixture("lora-shared-trunk");
    let (trunk, actor) = (roles.join("trunk"), roles.join("actor"));
    let (reward, cost) = (roles.join("reward"), roles.join("cost"));
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"arena", &"--red", &trunk, &"--blue", &trunk];
    all.extend([
        &"--blue-adapter" as &dyn AsRef<std::ffi::OsStr>,
        &actor,
        &"--prompts",
        &prompts,
        &"--output",
        &output,
    ]);
    all.extend([&"--reward-model" as &dyn AsRef<std::ffi::OsStr>, &reward, &"--cost-model", &cost]);
    all.extend([&"--template" as &dyn AsRef<std::ffi::OsStr>, &"safe-rlhf", &"--max-new-tokens", &"6"]);
    all.extend([&"--device" as &dyn AsRef<std::ffi::OsStr>, &"cpu", &"--threads", &"1"]);
    run(&all);
    let report: Value = serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap();
    let round = &report["rounds"][0];
    assert!(round["red"]["cost"].is_number() && round["red"]["text"] != round["blue"]["text"], "{report}");
}
