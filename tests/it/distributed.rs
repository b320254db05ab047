//! Ranks that share a model train it as one alone does: threads of one process, and processes of `paddock launch`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use paddock::Result;
use paddock::files::Dtype;
use paddock::ranks::{Threads, ThroughHost, threads};
use paddock::run::{MemorySettings, Metrics, OptimizerSettings, RunSettings, SftSettings};
use paddock::sft::FineTuning;
use paddock::signals::Signal;
use paddock::training::{self, Observer, Outcome, Overview, Resume};
use paddock_engine::Error;
use paddock_engine::backend::{Cpu, Device, WeightPart, cpu};
use paddock_engine::model::LoadProgress;
use paddock_engine::weights::Encoding;
use paddock_learn::collective::{Collective, Exchange, PendingGather, PendingSum, Stage};
use paddock_learn::lora::Lora;
use paddock_learn::objective::LossNormalization;
use paddock_learn::optim::{Bf16Update, Moments};
use paddock_learn::{Adjoint, Parameters};
use paddock_tests::program::{paddock, run, signal};
use paddock_tests::{block_on, distance, package_fixture};
use safetensors::SafeTensors;
use tempfile::TempDir;

/// Losses and weights of f32 whose sums are made in another order, relative.
const TOLERANCE: f64 = 1e-5;
/// Of weights in bf16 in which a sum decides the rounding: some differ by a unit of their last place.
const BF16_TOLERANCE: f64 = 2e-3;

fn settings(output: &Path) -> SftSettings {
    let fixture = package_fixture("sft");
    let run = RunSettings {
        data: fixture.join("data.json"),
        model: fixture,
        output: output.to_path_buf(),
        max_length: 256,
        batch_size: 5,
        max_steps: Some(6),
        optimizer: OptimizerSettings { learning_rate: 1e-3, warmup_ratio: 0.1, ..OptimizerSettings::default() },
        // Two or three passes a step for one alone.
        memory: MemorySettings { micro_batch_tokens: 400, ..MemorySettings::default() },
        save_steps: Some(4),
        keep: 2,
        ..RunSettings::default()
    };
    SftSettings { run, ..SftSettings::default() }
}

/// [`settings`], and what `change` makes of them.
fn settings_of_run(output: &Path, change: impl FnOnce(&mut RunSettings)) -> SftSettings {
    let mut settings = settings(output);
    change(&mut settings.run);
    settings
}

/// [`settings`], and what `change` makes of what its memory depends on.
fn settings_with(output: &Path, change: impl FnOnce(&mut MemorySettings)) -> SftSettings {
    settings_of_run(output, |run| change(&mut run.memory))
}

struct Silent;

impl Observer for Silent {
    fn loading(&mut self, _: LoadProgress) {}
    fn begin(&mut self, _: &Overview) {}
    fn note(&mut self, _: &str) {}
    fn step(&mut self, _: &Metrics, _: u64) {}
    fn evaluated(&mut self, _: &Metrics) {}
    fn sample(&mut self, _: u64, _: &str, _: &str) {}
    fn stop(&self) -> Option<Signal> {
        None
    }
}

type Ranks = Rc<dyn Collective<Cpu>>;

fn rank(ranks: Option<Ranks>, settings: &SftSettings, resume: bool) -> Result<Outcome> {
    let resume = Resume { resume, allow_changes: false };
    block_on(training::run::<FineTuning, _>(Cpu::with_threads(1), ranks, settings, resume, &mut Silent))
}

/// Runs `settings` on so many ranks.
fn train(world_size: usize, settings: &SftSettings, resume: bool) {
    train_by(|threads| Rc::new(ThroughHost(threads)), world_size, settings, resume);
}

/// The same, with what `ranks` makes of the threads.
fn train_by(ranks: fn(Threads) -> Ranks, world_size: usize, settings: &SftSettings, resume: bool) {
    if world_size == 1 {
        rank(None, settings, resume).unwrap();
        return;
    }
    thread::scope(|scope| {
        let ranks: Vec<_> = threads(world_size)
            .into_iter()
            .map(|handle| scope.spawn(move || rank(Some(ranks(handle)), settings, resume)))
            .collect();
        for rank in ranks {
            assert_eq!(rank.join().unwrap().unwrap(), Outcome::Finished);
        }
    });
}

fn losses(output: &Path) -> Vec<f64> {
    let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    text.lines().filter_map(|line| serde_json::from_str::<Metrics>(line).unwrap().loss).collect()
}

/// All values of a safetensors file, by name.
fn tensors(path: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            let data = tensor.data();
            let values = match tensor.dtype() {
                safetensors::Dtype::F32 => data.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect(),
                _ => data.as_chunks().0.iter().map(|[a, b]| f32::from_le_bytes([0, 0, *a, *b])).collect(),
            };
            (name.to_string(), values)
        })
        .collect();
    all.sort_by(|(a, _): &(String, Vec<f32>), (b, _)| a.cmp(b));
    all
}

#[track_caller]
fn assert_same(got: &Path, expected: &Path, file: &str, tolerance: f64) {
    let (curve, golden) = (losses(got), losses(expected));
    assert_eq!(curve.len(), golden.len());
    for (step, (got, expected)) in curve.iter().zip(&golden).enumerate() {
        assert!((got / expected - 1.0).abs() < tolerance, "step {step}: loss {got}, expected {expected}");
    }
    let (got, expected) = (tensors(&got.join(file)), tensors(&expected.join(file)));
    assert_eq!(got.len(), expected.len());
    for ((name, got), (_, expected)) in got.iter().zip(&expected) {
        let distance = distance(got, expected);
        assert!(distance < tolerance, "{name}: off by {distance}");
    }
}

/// Ranks that exchange nothing before they must, as if other work had the time until then.
struct Late(Rc<ThroughHost<Threads>>);

impl Collective<Cpu> for Late {
    fn rank(&self) -> usize {
        Collective::<Cpu>::rank(&*self.0)
    }

    fn world_size(&self) -> usize {
        Collective::<Cpu>::world_size(&*self.0)
    }

    fn gather(&self, values: Vec<f32>) -> Exchange<'_, Vec<f32>> {
        Collective::<Cpu>::gather(&*self.0, values)
    }

    fn sum<'a>(&'a self, values: &'a mut [f64]) -> Exchange<'a, ()> {
        Collective::<Cpu>::sum(&*self.0, values)
    }

    fn begin_gather(&self, backend: &Cpu, shard: &cpu::Weight) -> Result<PendingGather<Cpu>, Error> {
        // As it is now: a step may change the shard before the end.
        let [rows, cols] = backend.weight_shape(shard);
        let mut begun = backend.create_weight("copy", cols, &[WeightPart { rows, encoding: Encoding::F32 }])?;
        backend.write_values(&mut begun, 0, &block_on(backend.read_values(shard))?)?;
        let ranks = self.0.clone();
        Ok(Box::new(move |backend, whole| ranks.begin_gather(backend, &begun)?(backend, whole)))
    }

    fn begin_sum(&self, _: &Cpu, whole: &Gradient) -> Result<PendingSum<Cpu>, Error> {
        let (ranks, begun) = (self.0.clone(), whole.clone());
        Ok(Box::new(move |backend, shard| ranks.begin_sum(backend, &begun)?(backend, shard)))
    }
}

type Gradient = <Cpu as Adjoint>::Gradient;

#[test]
fn what_ranks_exchange_beside_other_work_is_waited_for() {
    let folder = TempDir::new().unwrap();
    for zero in [Stage::One, Stage::Two, Stage::Three] {
        for gradient_checkpointing in [false, true] {
            let output = |name: &str| folder.path().join(format!("{name}-{zero}-{gradient_checkpointing}"));
            let settings = |name: &str| {
                settings_with(&output(name), |memory| {
                    (memory.zero, memory.gradient_checkpointing) = (zero, gradient_checkpointing);
                })
            };
            train(2, &settings("at-once"), false);
            train_by(|threads| Rc::new(Late(Rc::new(ThroughHost(threads)))), 2, &settings("late"), false);
            let model = |name: &str| fs::read(output(name).join(MODEL)).unwrap();
            assert!(model("late") == model("at-once"), "stage {zero}");
        }
    }
}

#[test]
fn ranks_may_have_their_optimiser_on_the_host() {
    let folder = TempDir::new().unwrap();
    for zero in [Stage::One, Stage::Two, Stage::Three] {
        let output = |name: &str| folder.path().join(format!("{name}-{zero}"));
        let settings = |name: &str, offload| {
            settings_with(&output(name), |memory| (memory.zero, memory.offload_optimizer) = (zero, offload))
        };
        train(2, &settings("device", false), false);
        train(2, &settings("host", true), false);
        let model = |name: &str| fs::read(output(name).join(MODEL)).unwrap();
        assert!(model("host") == model("device"), "stage {zero}");
    }
}

const MODEL: &str = "model.safetensors";

#[test]
fn every_number_of_ranks_and_every_stage_train_alike() {
    let folder = TempDir::new().unwrap();
    let alone = folder.path().join("alone");
    train(1, &settings(&alone), false);
    // The comparison can fail: another order of the examples is another curve.
    let other = folder.path().join("other");
    train(1, &settings_of_run(&other, |run| run.seed = 7), false);
    assert!(losses(&alone).iter().zip(losses(&other)).any(|(a, b)| (a / b - 1.0).abs() > 100.0 * TOLERANCE));
    for world_size in [2, 4] {
        for zero in [Stage::One, Stage::Two, Stage::Three] {
            let output = folder.path().join(format!("{world_size}-{zero}"));
            let settings = settings_with(&output, |memory| {
                (memory.zero, memory.gradient_checkpointing) = (zero, zero == Stage::Three);
            });
            train(world_size, &settings, false);
            assert_same(&output, &alone, MODEL, TOLERANCE);
        }
    }
}

#[test]
fn adapters_and_bf16_are_shared_too() {
    let folder = TempDir::new().unwrap();
    let bf16 = |memory: &mut MemorySettings, bf16_update| {
        (memory.dtype, memory.bf16_update) = (Dtype::Bf16, bf16_update);
    };
    let lora = |memory: &mut MemorySettings| memory.adapters.lora = Some(Lora { rank: 3, ..Lora::default() });
    let dropping =
        |memory: &mut MemorySettings| memory.adapters.lora = Some(Lora { rank: 3, dropout: 0.2, ..Lora::default() });
    type Change<'a> = &'a dyn Fn(&mut MemorySettings);
    let kinds: [(&str, Change, &str, f64); 5] = [
        ("lora", &lora, "adapter_model.safetensors", 1e-4),
        ("dropout", &dropping, "adapter_model.safetensors", 1e-4),
        ("split", &|memory| bf16(memory, Bf16Update::SplitMaster), MODEL, BF16_TOLERANCE),
        ("8bit", &|memory| memory.moments = Moments::Dynamic8, MODEL, 1e-4),
        ("stochastic", &|memory| bf16(memory, Bf16Update::StochasticRounding), MODEL, BF16_TOLERANCE),
    ];
    for (name, change, file, tolerance) in kinds {
        let (alone, shared) = (folder.path().join(name), folder.path().join(format!("{name}-shared")));
        train(1, &settings_with(&alone, change), false);
        let three = |memory: &mut MemorySettings| {
            change(memory);
            memory.zero = Stage::Three;
        };
        train(3, &settings_with(&shared, three), false);
        assert_same(&shared, &alone, file, tolerance);
    }
}

/// Five examples on two ranks, one of which fills up with a pass that adds nothing; every example is a micro-batch, so
/// that a mean of their means does not depend on the ranks.
#[test]
fn a_mean_of_micro_batches_is_that_of_all_ranks() {
    let folder = TempDir::new().unwrap();
    let output = |name: &str| folder.path().join(name);
    let settings = |name: &str, zero, loss_normalization| SftSettings {
        loss_normalization,
        ..settings_with(&output(name), |memory| (memory.zero, memory.micro_batch_tokens) = (zero, 1))
    };
    train(1, &settings("alone", Stage::One, LossNormalization::MicroBatch), false);
    train(1, &settings("global", Stage::One, LossNormalization::Global), false);
    let differs = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() > 100.0 * TOLERANCE;
    assert!(losses(&output("alone")).iter().zip(&losses(&output("global"))).any(differs), "the comparison can fail");
    for zero in [Stage::One, Stage::Two, Stage::Three] {
        let name = format!("shared-{zero}");
        train(2, &settings(&name, zero, LossNormalization::MicroBatch), false);
        assert_same(&output(&name), &output("alone"), MODEL, TOLERANCE);
    }
}

#[test]
fn ranks_evaluate_together() {
    let folder = TempDir::new().unwrap();
    let evaluations = |world_size: usize| -> Vec<f64> {
        let output = folder.path().join(world_size.to_string());
        let eval_data = Some(package_fixture("sft").join("data.json"));
        let settings = settings_of_run(&output, |run| (run.eval_data, run.eval_steps) = (eval_data, Some(2)));
        train(world_size, &settings, false);
        let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str::<Metrics>(line).unwrap().eval_loss).collect()
    };
    let expected = evaluations(1);
    assert_eq!(expected.len(), 4, "before the first step, after the second, the fourth and the last");
    for world_size in [2, 3] {
        let got = evaluations(world_size);
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got / expected - 1.0).abs() < TOLERANCE, "{world_size} ranks: {got}, expected {expected}");
        }
    }
}

#[test]
fn a_checkpoint_goes_on_with_another_number_of_ranks() {
    let folder = TempDir::new().unwrap();
    let alone = folder.path().join("alone");
    train(1, &settings(&alone), false);
    for (before, after) in [(4, 1), (1, 2), (2, 3)] {
        let output = folder.path().join(format!("{before}-{after}"));
        let settings = settings(&output);
        train(before, &settings, false);
        // What a run that was killed in step 6 leaves.
        fs::remove_file(output.join(MODEL)).unwrap();
        fs::remove_dir_all(output.join("checkpoint-6")).unwrap();
        train(after, &settings, true);
        assert_same(&output, &alone, MODEL, TOLERANCE);
    }
}

#[test]
fn a_rank_that_fails_ends_the_others() {
    let folder = TempDir::new().unwrap();
    let settings = settings(&folder.path().join("run"));
    let [first, second] = <[Threads; 2]>::try_from(threads(2)).unwrap();
    let error = thread::scope(|scope| {
        let good = scope.spawn(|| rank(Some(Rc::new(ThroughHost(first))), &settings, false));
        // Another model: it ends before the first step.
        let bad = settings_of_run(&settings.run.output, |run| run.model = PathBuf::from("nothing"));
        assert!(rank(Some(Rc::new(ThroughHost(second))), &bad, false).is_err());
        good.join().unwrap().unwrap_err().to_string()
    });
    assert!(error.contains("rank 1") && error.contains("ended"), "{error}");
}

fn arguments(output: &Path, further: &[&str]) -> Vec<OsString> {
    let recipe = "sft --max-length 256 --batch-size 5 --micro-batch-tokens 400 --max-steps 20 --learning-rate 1e-3 \
                  --warmup-ratio 0.1 --save-steps 1 --device cpu --threads 1 --zero 3";
    let mut arguments: Vec<OsString> = recipe.split_whitespace().map(OsString::from).collect();
    let fixture = package_fixture("sft");
    arguments.extend(["--model".into(), fixture.clone().into(), "--data".into(), fixture.join("data.json").into()]);
    arguments.extend(["--output".into(), output.into()]);
    arguments.extend(further.iter().map(OsString::from));
    arguments
}

fn launch(output: &Path, further: &[&str]) -> Command {
    let mut command = paddock();
    command.args(["launch", "--processes", "2"]).args(arguments(output, further)).stderr(Stdio::piped());
    command
}

#[test]
#[cfg(target_os = "linux")]
fn processes_train_as_one_alone_and_survive_a_kill() {
    let folder = TempDir::new().unwrap();
    let (alone, shared, killed) =
        (folder.path().join("alone"), folder.path().join("shared"), folder.path().join("killed"));
    let own = arguments(&alone, &[]);
    run(&own.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>).collect::<Vec<_>>());
    let output = launch(&shared, &[]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("the tuned model").count(), 1, "only the first rank speaks: {stderr}");
    assert_same(&shared, &alone, MODEL, TOLERANCE);

    // One of the ranks is killed once there is a checkpoint; which process it is, the system tells.
    let job = launch(&killed, &[]).spawn().unwrap();
    while !killed.join("checkpoint-1").exists() {
        thread::sleep(Duration::from_millis(2));
    }
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", job.id())).unwrap();
    let victim = children.split_whitespace().last().unwrap();
    signal("KILL", victim);
    let output = job.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(128 + 9), "{stderr}");
    assert!(stderr.contains("rank 1 ended with signal: 9") && stderr.contains("--resume"), "{stderr}");
    let output = launch(&killed, &["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&killed, &alone, MODEL, TOLERANCE);
}
