//! `paddock arena --judge`: a language model says which answers are better.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use paddock_tests::chat_server::{Reply, chat_server};
use paddock_tests::package_fixture;
use paddock_tests::program::{paddock, refuses, run};
use serde_json::Value;
use tempfile::TempDir;

/// What the judge does with the answers to each.
const FIRST_BY_ALPHABET: &str = "Say hello.";
const FIRST_PLACE: &str = "Name a fruit.";
const MUMBLES: &str = "Name a colour.";
const UNDECIDED: &str = "Where is the moon?";
const PROMPTS: [&str; 4] = [FIRST_BY_ALPHABET, FIRST_PLACE, MUMBLES, UNDECIDED];

struct Contest {
    folder: TempDir,
    models: PathBuf,
}

impl Contest {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let rows: String = PROMPTS.iter().map(|prompt| format!("{{\"prompt\": \"{prompt}\"}}\n")).collect();
        fs::write(folder.path().join("prompts.jsonl"), rows).unwrap();
        Self { folder, models: package_fixture("lora-shared-trunk") }
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("report")
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("report.unfinished/journal.jsonl")
    }

    fn arguments(&self, judge: &str, further: &[&str]) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let trunk = path(&self.models.join("trunk"));
        let mut all = vec!["arena".to_string(), "--red".into(), trunk.clone(), "--blue".into(), trunk];
        all.extend(["--blue-adapter".into(), path(&self.models.join("actor"))]);
        all.extend(["--prompts".into(), path(&self.folder.path().join("prompts.jsonl"))]);
        all.extend(["--output".into(), path(&self.output()), "--judge".into(), judge.into()]);
        let plain = ["--template", "safe-rlhf", "--max-new-tokens", "12", "--device", "cpu", "--threads", "1"];
        all.extend(plain.iter().chain(further).map(|argument| argument.to_string()));
        all
    }

    fn run(&self, judge: &str, further: &[&str]) -> Value {
        let arguments = self.arguments(judge, further);
        run(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>());
        serde_json::from_slice(&fs::read(self.output().join("report.json")).unwrap()).unwrap()
    }

    fn refused(&self, judge: &str, further: &[&str], words: &[&str]) {
        let arguments = self.arguments(judge, further);
        refuses(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>(), words);
        assert!(!self.output().exists());
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).unwrap_or_else(|| panic!("{text}")).0
}

/// What the judge of these tests says.
fn opinion(question: &str) -> Reply {
    let asked = between(question, "[What the user asked]\n", "\n\n[Beginning");
    let text = match asked {
        _ if question.contains("[Beginning of the answer]") => match asked {
            FIRST_BY_ALPHABET => "Fine. [[8]]",
            FIRST_PLACE => "[[6.5]]",
            MUMBLES => "Eight of ten.",
            _ => "[[11]]",
        },
        FIRST_BY_ALPHABET => {
            let answer = |name: &str| {
                let (begin, end) = (format!("[Beginning of answer {name}]\n"), format!("\n[End of answer {name}]"));
                between(question, &begin, &end)
            };
            if answer("A") < answer("B") { "It comes first. [[A]]" } else { "It comes first. [[B]]" }
        }
        FIRST_PLACE => "[[A]]",
        MUMBLES => "Answer A, or perhaps answer B.",
        _ => "Both are the same to me. [[C]]",
    };
    Reply::Text(text.to_string())
}

#[test]
fn both_orders_decide_and_nothing_is_asked_twice() {
    let contest = Contest::new();
    let answered: Arc<Mutex<Vec<String>>> = Arc::default();
    let requests = Arc::new(AtomicUsize::new(0));
    let (log, count) = (answered.clone(), requests.clone());
    // Fails in many ways at first, then answers three questions, and says nothing more to the first program that asks.
    let judge = chat_server(move |question| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Cut,
        1 => Reply::Again(500),
        2 => Reply::Again(429),
        6 => Reply::Silence,
        7 => Reply::Again(408),
        _ => {
            log.lock().unwrap().push(question.to_string());
            opinion(question)
        }
    });
    let mut killed = paddock();
    killed.args(contest.arguments(&judge, &["--concurrency", "1"])).env("OPENAI_API_KEY", "sk-secret");
    let mut killed = killed.stderr(Stdio::null()).spawn().unwrap();
    let journal = || fs::read_to_string(contest.journal()).unwrap_or_default().lines().count();
    while requests.load(Ordering::SeqCst) < 7 || journal() < 3 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before it was killed");
        thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(journal(), 3);
    contest.refused("http://127.0.0.1:9", &["--judge-model", "m"], &["judge was", "--output"]);

    let report = contest.run(&judge, &["--concurrency", "1"]);
    let mut asked = answered.lock().unwrap().clone();
    assert_eq!(asked.len(), 2 * PROMPTS.len());
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 2 * PROMPTS.len(), "each question has been answered once");

    let rounds = report["rounds"].as_array().unwrap();
    let text = |round: &Value, side: &str| round[side]["text"].as_str().unwrap().to_string();
    assert!(rounds.iter().all(|round| text(round, "red") != text(round, "blue")), "equal answers are not asked about");
    let first = if text(&rounds[0], "red") < text(&rounds[0], "blue") { "red" } else { "blue" };
    let winners: Vec<&str> = rounds.iter().map(|round| round["verdict"]["winner"].as_str().unwrap()).collect();
    assert_eq!(winners, [first, "tie", "unread", "tie"]);
    assert_eq!(rounds[1]["verdict"]["orders"], serde_json::json!(["red", "blue"]));
    let pairs = &report["judge"]["pairs"];
    assert_eq!((&report["judge"]["judge"], &pairs["ties"], &pairs["unread"]), (&"fair".into(), &2.into(), &1.into()));
    assert_eq!((&pairs[format!("{first}_wins")]["count"], &pairs["blue_wins"]["of"]), (&1.into(), &3.into()));
    assert_eq!(pairs["same_place"], serde_json::json!([1, 0]));
    assert!(report.get("summary").is_none() && rounds[0]["red"].get("reward").is_none(), "no score model took part");

    let page = fs::read_to_string(contest.output().join("report.html")).unwrap();
    assert!(page.contains("fair") && page.contains("could not be read"), "{page}");
    assert!(!contest.journal().exists() && contest.output().join("journal.jsonl").exists());
    for file in fs::read_dir(contest.output()).unwrap() {
        assert!(!fs::read_to_string(file.unwrap().path()).unwrap().contains("sk-secret"));
    }
}

#[test]
fn ratings_stop_before_they_cost_too_much_and_go_on() {
    let contest = Contest::new();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let judge = chat_server(move |question| match count.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Nonsense,
        _ => opinion(question),
    });
    // An answer costs 10 + 5. After the third there may be a fourth under way.
    let scores = ["--judge-mode", "scores", "--concurrency", "1", "--price-prompt", "1e6", "--price-completion", "1e6"];
    let limited = [&scores[..], &["--max-cost", "40"]].concat();
    contest.refused(&judge, &limited, &["of 8 questions", "--max-cost"]);
    assert!([4, 5].contains(&requests.load(Ordering::SeqCst)));
    let reward = contest.models.join("reward").display().to_string();
    let report = contest.run(&judge, &[&scores[..], &["--reward-model", &reward]].concat());
    assert_eq!(requests.load(Ordering::SeqCst), 9);
    for side in 0..2 {
        let ratings = &report["judge"]["ratings"][side];
        assert_eq!((&ratings["mean"], &ratings["count"], &ratings["unread"]), (&7.25.into(), &2.into(), &2.into()));
    }
    assert!(report["judge"].get("pairs").is_none() && report["summary"]["reward"][0].is_number());
    assert_eq!(report["rounds"][0]["red"]["rating"], 8.0);
    assert_eq!(report["rounds"][2]["red"].get("rating"), Some(&Value::Null));
}

/// A random model has no opinion, which is said and is no tie.
#[test]
fn a_judge_of_this_machine_may_say_nothing_useful() {
    let contest = Contest::new();
    let judge = format!("local:{}", contest.models.join("trunk").display());
    let report = contest.run(&judge, &["--judge-max-tokens", "4", "--judge-template", "alpaca", "--limit", "2"]);
    let pairs = &report["judge"]["pairs"];
    assert_eq!((&pairs["unread"], &pairs["ties"], &pairs["blue_wins"]["of"]), (&2.into(), &0.into(), &0.into()));
}

#[test]
fn what_is_no_judge_is_refused_before_anything_is_asked() {
    let contest = Contest::new();
    contest.refused("gpt-4", &[], &["the judge \"gpt-4\" is neither local:PATH nor an address"]);
    let missing = format!("local:{}", contest.folder.path().join("none").display());
    contest.refused(&missing, &[], &["none"]);
    let deaf = chat_server(|_| Reply::Again(400));
    contest.refused(&deaf, &["--judge-model", "m", "--limit", "1"], &["answers 400", "not now"]);
}
