use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};

use super::*;
use crate::files::Dtype;
use paddock_learn::collective::Stage;
use paddock_learn::lora::Lora;
use paddock_learn::objective::LossNormalization;
use paddock_learn::optim::{Bf16Update, Moments, Schedule};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    settings: SftSettings,
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long)]
    resume: bool,
}

fn flags(line: &str) -> SftSettings {
    let line = format!("sft --model m --data d --output o {line}");
    Line::try_parse_from(line.split_whitespace()).unwrap().settings
}

fn parse(text: &str) -> Result<SftSettings, String> {
    let file = SettingsFile::parse::<SftSettings>(text, "run.toml")?;
    file.with_flags(&SftSettings::default(), &BTreeSet::new()).map_err(|error| error.to_string())
}

fn paths() -> SftSettings {
    let run = RunSettings { model: "m".into(), data: "d".into(), output: "o".into(), ..RunSettings::default() };
    SftSettings { run, ..SftSettings::default() }
}

/// The settings of one run, as flags, as a file that an earlier version of Paddock wrote, and as values.
#[test]
fn flags_and_file_say_the_same() {
    let line = "--template alpaca --max-length 256 --batch-size 16 --micro-batch-tokens 1024 --epochs 2 --max-steps 100 \
                --learning-rate 0.0001 --warmup-ratio 0.1 --schedule linear --weight-decay 0.5 --max-grad-norm 0 \
                --loss-normalization micro-batch --seed 7 --no-shuffle --dtype bf16 --bf16-update split-master \
                --moments 8bit --lora-rank 4 --lora-targets q_proj,o_proj --lora-dropout 0.25 --zero 3 --gradient-checkpointing \
                --offload optimizer --save-steps 50 --keep 2 --eval-data e --eval-steps 10";
    let file = "model = \"m\"\ndata = \"d\"\noutput = \"o\"\ntemplate = \"alpaca\"\nmax-length = 256\nbatch-size = 16\n\
                micro-batch-tokens = 1024\nepochs = 2\nmax-steps = 100\nlearning-rate = 0.0001\nwarmup-ratio = 0.1\n\
                schedule = \"linear\"\nweight-decay = 0.5\nmax-grad-norm = 0.0\nloss-normalization = \"micro-batch\"\n\
                seed = 7\nshuffle = false\nadd-missing-tokens = false\ndtype = \"bf16\"\nbf16-update = \"split-master\"\n\
                moments = \"8bit\"\nzero = \"3\"\ngradient-checkpointing = true\noffload-optimizer = true\n\
                save-steps = 50\nkeep = 2\neval-data = \"e\"\neval-steps = 10\n\n\
                [lora]\nrank = 4\nalpha = 4.0\ntargets = [\"q_proj\", \"o_proj\"]\ndropout = 0.25\n";
    let lora = Lora { rank: 4, alpha: 4.0, targets: vec!["q_proj".to_string(), "o_proj".to_string()], dropout: 0.25 };
    let run = RunSettings {
        template: TemplateKind::Alpaca,
        max_length: 256,
        batch_size: 16,
        epochs: 2,
        max_steps: Some(100),
        optimizer: OptimizerSettings {
            learning_rate: 1e-4,
            warmup_ratio: 0.1,
            schedule: Schedule::Linear,
            weight_decay: 0.5,
            max_grad_norm: 0.0,
            ..OptimizerSettings::default()
        },
        seed: 7,
        shuffle: false,
        memory: MemorySettings {
            micro_batch_tokens: 1024,
            gradient_checkpointing: true,
            dtype: Dtype::Bf16,
            bf16_update: Bf16Update::SplitMaster,
            moments: Moments::Dynamic8,
            adapters: AdapterSettings { lora: Some(lora) },
            zero: Stage::Three,
            offload_optimizer: true,
        },
        save_steps: Some(50),
        keep: 2,
        eval_data: Some("e".into()),
        eval_steps: Some(10),
        ..paths().run
    };
    let expected = SftSettings { run, loss_normalization: LossNormalization::MicroBatch, ..SftSettings::default() };
    assert_eq!(flags(line), expected);
    assert_eq!(parse(file), Ok(expected.clone()));
    assert_eq!(parse(&expected.to_toml().unwrap()), Ok(expected));
}

#[test]
fn defaults_are_the_same_everywhere() {
    assert_eq!(flags(""), paths());
    let file = "model = \"m\"\ndata = \"d\"\noutput = \"o\"";
    assert_eq!(parse(file), Ok(paths()));
    assert_eq!(parse(&paths().to_toml().unwrap()), Ok(paths()));
}

/// Every flag of a run is a setting of the file by the same name, and the other way round.
#[test]
fn flags_and_file_have_the_same_names() {
    let run = RunSettings {
        max_steps: Some(1),
        save_steps: Some(1),
        eval_data: Some("e".into()),
        eval_steps: Some(1),
        memory: MemorySettings {
            adapters: AdapterSettings { lora: Some(Lora::default()) },
            ..MemorySettings::default()
        },
        ..paths().run
    };
    let full = SftSettings { run, sample_prompts: Some("p".into()), ..SftSettings::default() };
    let table = Table::try_from(&full).unwrap();
    let mut names: Vec<String> = table.keys().cloned().collect();
    let command = Line::command();
    let mut flags: Vec<String> =
        command.get_arguments().map(|argument| argument.get_id().as_str().replace('_', "-")).collect();
    flags.retain(|flag| {
        !["config", "resume", "help", "lora-rank", "lora-alpha", "lora-targets", "lora-dropout"]
            .contains(&flag.as_str())
    });
    flags.push("lora".to_string());
    flags.sort();
    names.sort();
    assert_eq!(flags, names);
}

#[test]
fn senseless_settings_are_refused_by_name() {
    let cases = [
        ("max-length = 0", "max-length is 0, expected a whole number above 0"),
        ("batch-size = 0", "batch-size is 0"),
        ("epochs = 0", "epochs is 0"),
        ("micro-batch-tokens = 0", "micro-batch-tokens is 0"),
        ("save-steps = 0", "save-steps is 0"),
        ("keep = 0", "keep is 0"),
        ("eval-steps = 3", "eval-data and sample-prompts are missing"),
        ("eval-data = \"e\"\neval-steps = 0", "eval-steps is 0"),
        ("learning-rate = -1e-3", "learning-rate is -0.001, expected a number of at least 0"),
        ("learning-rate = nan", "learning-rate is NaN"),
        ("learning-rate = inf", "learning-rate is inf"),
        ("warmup-ratio = 5.0", "warmup-ratio is 5, expected a number from 0 to 1"),
        ("warmup-ratio = nan", "warmup-ratio is NaN"),
        ("weight-decay = -0.5", "weight-decay is -0.5"),
        ("max-grad-norm = -1.0", "max-grad-norm is -1"),
        ("dtype = \"f16\"", "dtype is f16, expected f32 or bf16"),
        ("[lora]\nrank = 0", "the rank of lora is 0"),
        ("[lora]\nalpha = 0.0", "the alpha of lora is 0"),
        ("[lora]\ntargets = []", "lora's targets is [], expected names of modules"),
        ("[lora]\ntargets = [\"\"]", "lora's targets"),
        ("add-missing-tokens = true\n[lora]\nrank = 2", "adapters have no rows"),
        ("max-length = \"long\"", "max-length: invalid type"),
        ("seed = -1", "seed: invalid value"),
        ("schedule = \"step\"", "schedule: unknown variant"),
        ("learningrate = 1.0", "learningrate is not a setting"),
        ("[lora]\nranks = 2", "lora: unknown field"),
        ("max-length = 1\nmax-length = 2", "duplicate key"),
        ("model = \"\"", "model is missing"),
    ];
    for (text, words) in cases {
        let paths = ["model", "data", "output"].into_iter().filter(|name| !text.starts_with(name));
        let paths: String = paths.map(|name| format!("{name} = \"x\"\n")).collect();
        let error = parse(&format!("{paths}{text}")).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
    for (line, words) in [
        ("--learning-rate -0.001", "learning-rate is -0.001"),
        ("--learning-rate nan", "learning-rate is NaN"),
        ("--warmup-ratio 5", "warmup-ratio is 5"),
        ("--lora-rank 2 --lora-targets ,", "lora's targets"),
        ("--lora-rank 0", "the rank of lora is 0"),
        ("--dtype f16", "dtype is f16"),
        ("--dtype fp16", "dtype is f16, expected f32 or bf16"),
        ("--keep 0", "keep is 0"),
    ] {
        let error = flags(line).check().expect_err(line);
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn flags_that_are_missing_or_lonely_are_refused() {
    for line in ["sft --model m --data d", "sft --model m --data d --output o --lora-alpha 2", "sft --config"] {
        assert!(Line::try_parse_from(line.split_whitespace()).is_err(), "{line}");
    }
    let line = Line::try_parse_from(["sft", "--config", "c"]).unwrap();
    assert!(line.settings.check().is_err_and(|error| error.contains("model is missing")));
}

#[test]
fn flags_stand_above_the_file() {
    let file = "model = \"m\"\ndata = \"d\"\noutput = \"o\"\nbatch_size = 16\nepochs = 2\n[lora]\nrank = 4\n";
    let combined = |file: &str, line: &str| {
        let line = format!("sft --config c {line}");
        let matches = Line::command().try_get_matches_from(line.split_whitespace()).unwrap();
        let of_line = |id: &clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        let given = matches.ids().filter(|id| of_line(id)).map(|id| id.as_str().replace('_', "-")).collect();
        let flags = Line::from_arg_matches(&matches).unwrap().settings;
        let file = SettingsFile::parse::<SftSettings>(file, "c").unwrap();
        file.with_flags(&flags, &given).map_err(|error| error.to_string())
    };
    let run = RunSettings {
        batch_size: 16,
        epochs: 2,
        memory: MemorySettings {
            adapters: AdapterSettings { lora: Some(Lora { rank: 4, alpha: 4.0, ..Lora::default() }) },
            ..MemorySettings::default()
        },
        ..paths().run
    };
    let of_run = |run: &RunSettings| Ok(SftSettings { run: run.clone(), ..SftSettings::default() });
    assert_eq!(combined(file, ""), of_run(&run), "underscores, and alpha is the rank");
    let mut changed = RunSettings { epochs: 5, shuffle: false, max_steps: Some(7), ..run };
    changed.memory.adapters.lora = Some(Lora { rank: 4, alpha: 16.0, ..Lora::default() });
    assert_eq!(combined(file, "--epochs 5 --no-shuffle --max-steps 7 --lora-alpha 16"), of_run(&changed));
    // Without adapters in the file they have their own defaults.
    let plain = file.split("[lora]").next().unwrap();
    changed.memory.adapters.lora = Some(Lora { rank: 2, alpha: 2.0, ..Lora::default() });
    assert_eq!(combined(plain, "--epochs 5 --no-shuffle --max-steps 7 --lora-rank 2"), of_run(&changed));
    assert!(combined(plain, "--lora-alpha 2").is_err_and(|error| error.contains("need --lora-rank")));
    // What a flag says is not the file's fault.
    assert_eq!(combined(file, "--keep 0"), Err("keep is 0, expected a whole number above 0".to_string()));
}

#[test]
fn a_problem_of_the_file_has_its_line() {
    for (text, start) in [
        ("model = \"m\"\n\nepochs = oops\n", "run.toml, line 3: "),
        ("epochs = 1\nepochs = 2", "run.toml, line 2: "),
        ("epochs = 1\n# more\nmax_length = \"long\"", "run.toml, line 3: max-length: invalid type"),
        ("epochs = 1\nlearningrate = 1.0", "run.toml, line 2: learningrate is not a setting"),
        ("batch-size = 1\nbatch_size = 2", "run.toml, line 2: batch-size is set twice"),
        ("model = \"m\"\ndata = \"d\"\noutput = \"o\"\nkeep = 0", "run.toml, line 4: keep is 0"),
        (
            "model = \"m\"\ndata = \"d\"\noutput = \"o\"\n[lora]\nalpha = nan",
            "run.toml, line 4: the alpha of lora is NaN",
        ),
    ] {
        let file = SettingsFile::parse::<SftSettings>(text, "run.toml");
        let read = file.and_then(|file| {
            file.with_flags(&SftSettings::default(), &BTreeSet::new()).map_err(|error| error.to_string())
        });
        let error = read.expect_err(text);
        assert!(error.starts_with(start), "{error}");
    }
}
