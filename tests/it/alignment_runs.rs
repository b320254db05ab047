//! What runs of `paddock reward`, `cost` and `dpo` have of `sft`'s: they do not depend on how a step is cut and shared, go
//! on after a kill to the same bits, and refuse bad data in one sentence.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use paddock_tests::alignment::{Fixture, Trained, steps, tensors, train, with};
use paddock_tests::program::{paddock, refuses};
use paddock_tests::sft::metrics;
use tempfile::TempDir;

/// Losses and weights of f32 whose sums are made in another order, relative.
const TOLERANCE: f64 = 1e-5;
const MODEL: &str = "model.safetensors";
const ALL: [Trained; 3] = [Trained::Reward, Trained::Cost, Trained::Dpo];

fn same(found: &Path, expected: &Path) {
    let losses = |output: &Path| steps(&metrics(output), "loss");
    let (found_losses, expected_losses) = (losses(found), losses(expected));
    assert_eq!(found_losses.len(), expected_losses.len());
    for (found, expected) in found_losses.iter().zip(&expected_losses) {
        assert!((found / expected - 1.0).abs() < TOLERANCE, "{found}, expected {expected}");
    }
    for ((name, found), (_, expected)) in tensors(&found.join(MODEL)).iter().zip(tensors(&expected.join(MODEL))) {
        let distance = paddock_tests::distance(found, &expected);
        assert!(distance < 10.0 * TOLERANCE, "{name} is off by {distance}");
    }
}

#[test]
fn a_step_does_not_depend_on_how_it_is_cut_and_shared() {
    let folder = TempDir::new().unwrap();
    for trained in ALL {
        let fixture = Fixture::own(trained);
        let output = |name: &str| folder.path().join(format!("{}-{name}", trained.command()));
        train(&fixture.arguments(), &output("whole"), "--max-steps 4");
        // Each pair by itself, two at a time, and with activations computed anew.
        for (name, further) in [
            ("single", "--max-steps 4 --micro-batch-tokens 1"),
            ("cut", "--max-steps 4 --micro-batch-tokens 400"),
            ("anew", "--max-steps 4 --gradient-checkpointing --offload optimizer"),
        ] {
            train(&fixture.arguments(), &output(name), further);
            same(&output(name), &output("whole"));
        }
        // The pairs of each step in another order.
        let rows = fs::read_to_string(fixture.folder.join("train.jsonl")).unwrap();
        let rows: Vec<&str> = rows.lines().collect();
        let turned: Vec<&str> = rows.chunks(4).flat_map(|step| step.iter().rev().copied()).collect();
        let data = folder.path().join("turned.jsonl");
        fs::write(&data, turned.join("\n")).unwrap();
        train(&fixture.arguments(), &output("turned"), &format!("--max-steps 4 --data {}", data.display()));
        same(&output("turned"), &output("whole"));
        let shared = with(&fixture.arguments(), &output("shared"), "--max-steps 4");
        let launch: Vec<OsString> = ["launch", "--processes", "2", "--"].into_iter().map(OsString::from).collect();
        let ran = paddock().args(launch.iter().chain(&shared)).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        same(&output("shared"), &output("whole"));
        // The comparison can fail.
        train(&fixture.arguments(), &output("other"), "--max-steps 4 --batch-size 3");
        let losses = |name: &str| steps(&metrics(&output(name)), "loss");
        assert!(losses("other").iter().zip(losses("whole")).any(|(a, b)| (a / b - 1.0).abs() > 100.0 * TOLERANCE));
    }
}

/// Kills of each run: 30 of all.
const KILLS: usize = 5;

#[test]
fn a_run_killed_at_any_moment_goes_on_to_the_same_bits() {
    let folder = TempDir::new().unwrap();
    let mut seed = 11u32;
    for trained in ALL {
        let fixture = Fixture::own(trained);
        for (kind, further) in [
            ("whole", "--save-steps 1 --keep 3"),
            ("adapters", "--save-steps 1 --keep 3 --lora-rank 2 --lora-targets all-linear"),
        ] {
            let output = |name: &str| folder.path().join(format!("{}-{kind}-{name}", trained.command()));
            let began = Instant::now();
            train(&fixture.arguments(), &output("undisturbed"), further);
            let whole = began.elapsed();
            let killed = output("killed");
            let arguments = with(&fixture.arguments(), &killed, further);
            let mut kills = 0;
            while kills < KILLS {
                let resume = if killed.exists() { &["--resume"][..] } else { &[] };
                let mut run = paddock().args(&arguments).args(resume).stderr(Stdio::null()).spawn().unwrap();
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                thread::sleep(whole.mul_f64(f64::from(seed >> 8) / f64::from(1 << 24)));
                if run.try_wait().unwrap().is_some() {
                    // It has come to its end; the next one begins anew.
                    fs::remove_dir_all(&killed).unwrap();
                    continue;
                }
                run.kill().unwrap();
                run.wait().unwrap();
                kills += 1;
            }
            let resume = if killed.exists() { " --resume" } else { "" };
            train(&fixture.arguments(), &killed, &format!("{further}{resume}"));
            let file = if kind == "whole" { MODEL } else { "adapter_model.safetensors" };
            for file in [file, "checkpoint-12/optimizer.safetensors"] {
                let read = |name: &str| fs::read(output(name).join(file)).unwrap();
                assert!(read("killed") == read("undisturbed"), "{} {kind}: {file}", trained.command());
            }
            let losses = |name: &str| steps(&metrics(&output(name)), "loss");
            assert_eq!(losses("killed"), losses("undisturbed"));
            if kind == "whole" {
                let config = |name: &str| fs::read(output(name).join("config.json")).unwrap();
                assert!(config("killed") == config("undisturbed"));
            }
        }
    }
}

/// Every loss of `dpo` learns what it is of: chosen answers gain on rejected ones.
#[test]
fn every_loss_prefers_what_is_chosen() {
    let folder = TempDir::new().unwrap();
    let fixture = Fixture::own(Trained::Dpo);
    for loss in
        ["sigmoid", "ipo", "hinge", "robust", "apo-zero", "apo-down", "sigmoid-norm", "simpo", "orpo", "cpo", "kto"]
    {
        let output = folder.path().join(loss);
        let smoothing = if loss == "robust" { "--label-smoothing 0.1" } else { "" };
        let further = format!("--loss {loss} {smoothing} --sft-weight 0.1 --epochs 4");
        train(&fixture.arguments_without_preset(), &output, &further);
        let margins = steps(&metrics(&output), "rewards/margins");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        // The first and the last of four passes over the same pairs.
        let pass = margins.len() / 4;
        assert!(mean(&margins[3 * pass..]) > mean(&margins[..pass]), "{loss}: {margins:?}");
    }
}

/// The losses without a reference, and that of single answers, are what their definitions make of the log-probabilities that a
/// run notes. How many tokens an answer has comes from the loss of its own, `−l / n`.
#[test]
fn losses_without_a_reference_are_those_of_their_definitions() {
    let folder = TempDir::new().unwrap();
    let fixture = Fixture::own(Trained::Dpo);
    let data = folder.path().join("data.jsonl");
    let run = |name: &str, row: &str, further: &str| {
        fs::write(&data, row).unwrap();
        let output = folder.path().join(name);
        let further = format!("{further} --data {} --max-steps 1", data.display());
        train(&fixture.arguments_without_preset(), &output, &further);
        let metrics = metrics(&output);
        ["loss", "logps/chosen", "logps/rejected"].map(|name| steps(&metrics, name)[0])
    };
    let pair = r#"{"prompt": "Name a fruit.", "chosen": "An apple, or a pear.", "rejected": "No."}"#;
    let turned = r#"{"prompt": "Name a fruit.", "chosen": "No.", "rejected": "An apple, or a pear."}"#;
    let single = "--batch-size 1 --beta 0.2";
    let minus_log_sigmoid = |x: f64| (1.0 + (-x).exp()).ln();
    let near =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-5, "{found}, expected {expected}");
    let [loss, chosen, rejected] = run("cpo", pair, &format!("--loss cpo --sft-weight 0 {single}"));
    near(loss, minus_log_sigmoid(0.2 * (chosen - rejected)));
    // Of CPO the chosen answer's own loss is a part unless that is refused.
    let tokens = |name: &str, row: &str| {
        let without = run(&format!("{name}-without"), row, &format!("--loss cpo --sft-weight 0 {single}"));
        let [loss, chosen, _] = run(name, row, &format!("--loss cpo {single}"));
        let tokens = -chosen / (loss - without[0]);
        assert!((tokens - tokens.round()).abs() < 1e-3 && tokens > 1.0, "{tokens}");
        tokens.round()
    };
    let means = [chosen / tokens("long", pair), rejected / tokens("short", turned)];
    let simpo = run("simpo", pair, &format!("--loss simpo --simpo-gamma 0.3 {single}"));
    near(simpo[0], minus_log_sigmoid(0.2 * (means[0] - means[1]) - 0.3));
    let log_odds = |mean: f64| mean - (1.0 - mean.exp()).ln();
    let orpo = run("orpo", pair, &format!("--loss orpo {single}"));
    near(orpo[0], 0.2 * minus_log_sigmoid(log_odds(means[0]) - log_odds(means[1])) - means[0]);
    // Before the first step the model is its reference: all ratios are 0, and an answer's loss is half its weight.
    let answers = r#"{"prompt": "Name a fruit.", "completion": "A pear.", "label": true}
{"prompt": "Say hello.", "completion": "No.", "label": false}"#;
    let kto = run("kto", answers, "--loss kto --batch-size 2 --undesirable-weight 0.5");
    near(kto[0], (0.5 + 0.25) / 2.0);
    let refuse = |row: &str, further: &str, words: &[&str]| {
        fs::write(&data, row).unwrap();
        let output = folder.path().join("refused");
        let further = format!("{further} --data {}", data.display());
        refused(&with(&fixture.arguments_without_preset(), &output, &further), words);
        assert!(!output.exists());
    };
    refuse(r#"{"chosen": "a", "rejected": "b"}"#, "--loss simpo", &["\"prompt\" is missing"]);
    refuse(r#"{"prompt": "q", "chosen": "a"}"#, "--loss orpo", &["line 1", "\"chosen\" and \"rejected\""]);
    refuse(r#"{"prompt": "q", "chosen": "a", "rejected": "a"}"#, "--loss cpo", &["both answers are the same"]);
    refuse(r#"{"prompt": "q", "completion": "a"}"#, "--loss kto", &["\"label\""]);
}

/// The three references say the same.
#[test]
fn references_agree() {
    let folder = TempDir::new().unwrap();
    let fixture = Fixture::own(Trained::Dpo);
    let losses = |name: &str, further: &str| {
        let output = folder.path().join(name);
        let eval = fixture.folder.join("train.jsonl");
        let further = format!("{further} --max-steps 4 --eval-data {} --eval-steps 2", eval.display());
        train(&fixture.arguments(), &output, &further);
        let metrics = metrics(&output);
        (steps(&metrics, "loss"), metrics.iter().filter_map(|metrics| metrics.eval_loss).collect::<Vec<f64>>())
    };
    assert_eq!(losses("model", "--reference model"), losses("cached", "--reference cached"));
    let adapters = "--lora-rank 2 --lora-targets all-linear";
    let off = losses("off", &format!("{adapters} --reference adapter-off"));
    assert_eq!(off.1.len(), 3);
    assert_eq!(off, losses("lora-model", &format!("{adapters} --reference model")));
    assert_eq!(off, losses("lora-cached", &format!("{adapters} --reference cached")));
}

fn refused(arguments: &[OsString], words: &[&str]) {
    refuses(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>(), words);
}

#[test]
fn bad_data_is_refused_in_one_sentence() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    for (trained, row, words) in [
        (Trained::Reward, r#"{"prompt": "q"}"#, vec!["line 1", "\"response_0\""]),
        (
            Trained::Reward,
            r#"{"prompt": "q", "response_0": "a", "response_1": "a", "better_response_id": 0}"#,
            vec!["both answers are the same"],
        ),
        (Trained::Cost, r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#, vec!["\"safer_response_id\""]),
        (Trained::Dpo, r#"{"chosen": "a", "rejected": "b"}"#, vec!["\"prompt\" is missing"]),
        (Trained::Dpo, "nonsense", vec!["line 1"]),
    ] {
        let fixture = Fixture::own(trained);
        let data = folder.path().join("data.jsonl");
        fs::write(&data, row).unwrap();
        let further = format!("--data {}", data.display());
        refused(&with(&fixture.arguments(), &output, &further), &words);
        assert!(!output.exists());
    }
    let fixture = Fixture::own(Trained::Dpo);
    refused(&with(&fixture.arguments(), &output, "--max-length 8"), &["left after the cut at 8 tokens"]);
    let reward = Fixture::own(Trained::Reward);
    train(&reward.arguments(), &output, "--max-steps 1");
    // Another command does not go on with it.
    refused(&with(&Fixture::own(Trained::Cost).arguments(), &output, "--resume"), &["paddock reward"]);
}

/// Rows that cannot be used are counted, each reason once.
#[test]
fn what_is_left_out_is_counted() {
    let folder = TempDir::new().unwrap();
    let fixture = Fixture::own(Trained::Reward);
    let rows = fs::read_to_string(fixture.folder.join("train.jsonl")).unwrap();
    let same = r#"{"prompt": "q", "response_0": "a", "response_1": "a", "better_response_id": 0}"#;
    let data = folder.path().join("data.jsonl");
    fs::write(&data, format!("{same}\n{rows}{same}\n{{}}\n")).unwrap();
    let arguments =
        with(&fixture.arguments(), &folder.path().join("run"), &format!("--data {} --max-steps 1", data.display()));
    let ran = paddock().args(&arguments).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("24 of 27 records are used; left out are 3 (2, the first at line 1: both answers"), "{said}");
}
