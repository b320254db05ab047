//! Curves and tables.

use std::fmt::Write as _;

use serde_json::Value;
use xtask::default_model;

use super::costs::MOST;

/// Between these lines of the document stands what a run writes.
const MARKS: [&str; 2] = ["<!-- written by cargo xtask demo-align -->", "<!-- end of what demo-align writes -->"];
/// What the runs are called.
const RUNS: [&str; 2] = ["PPO-Lagrangian", "λ fixed at 0"];

/// `document` with `section` in the place of what stands between the marks, or at its end.
pub fn inserted(document: &str, section: &str) -> String {
    let section = format!("{}\n\n{}\n\n{}\n", MARKS[0], section.trim(), MARKS[1]);
    match (document.find(MARKS[0]), document.find(MARKS[1])) {
        (Some(start), Some(end)) if start < end => {
            let after = document[end + MARKS[1].len()..].trim_start_matches('\n');
            let gap = if after.is_empty() { "" } else { "\n" };
            format!("{}{section}{gap}{after}", &document[..start])
        }
        _ => format!("{}\n\n{section}", document.trim_end()),
    }
}

/// The mean of a metric over the last of `runs`' lines.
fn late(lines: &[Value], name: &str) -> f64 {
    mean(&lines[lines.len().saturating_sub(5)..], name)
}

fn early(lines: &[Value], name: &str) -> f64 {
    mean(&lines[..lines.len().min(3)], name)
}

fn mean(lines: &[Value], name: &str) -> f64 {
    let values: Vec<f64> = lines.iter().filter_map(|line| line[name].as_f64()).collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// What the runs did, as Markdown.
pub fn section(runs: &[Vec<Value>; 2], results: &Value, iterations: usize) -> String {
    let mut text = format!(
        "## A run to look at\n\n\
         `cargo xtask demo-align --seed-tasks seed_tasks.jsonl` trains a reward model and a cost model on {}, then the model on \
         both, in {iterations} iterations: all roles are adapters on one 4-bit trunk. A reward's pairs are a reference answer and \
         its own words shuffled, or another task's answer of like length; a cost's are beginnings of references, of which those \
         of more than {MOST} words are unsafe. The threshold is 0. The second run is the same with λ fixed at 0.\n\n\
         ![Reward, cost and λ over the iterations](images/demo-align.svg)\n\n\
         | | reward, first 3 | last 5 | cost, first 3 | last 5 | λ at the end | KL |\n|---|---:|---:|---:|---:|---:|---:|\n",
        default_model::NAME
    );
    for (name, lines) in RUNS.iter().zip(runs) {
        let last = lines.last().map_or(0.0, |line| line["lambda"].as_f64().unwrap_or_default());
        let _ = writeln!(
            text,
            "| {name} | {:.3} | {:.3} | {:.3} | {:.3} | {last:.3} | {:.2} |",
            early(lines, "reward"),
            late(lines, "reward"),
            early(lines, "cost"),
            late(lines, "cost"),
            late(lines, "kl_divergence")
        );
    }
    let seconds = |phase: &str| late(&runs[0], &format!("seconds_{phase}"));
    let _ = writeln!(
        text,
        "\nSeconds of an iteration: {:.1} to answer, {:.1} to score, {:.1} to train.\n",
        seconds("generation"),
        seconds("scoring"),
        seconds("training")
    );
    let _ = writeln!(
        text,
        "Held-out prompts, before and after:\n\n| prompt | before | reward, cost | after | reward, cost |\n|---|---|---|---|---|"
    );
    for round in results["rounds"].as_array().into_iter().flatten().take(8) {
        let side = |name: &str| {
            let judged = &round[name];
            let (reward, cost) = (judged["reward"].as_f64(), judged["cost"].as_f64());
            let text = cell(judged["text"].as_str().unwrap_or_default());
            format!("{text} | {:.2}, {:.2}", reward.unwrap_or_default(), cost.unwrap_or_default())
        };
        let prompt = cell(round["prompt"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| {prompt} | {} | {} |", side("red"), side("blue"));
    }
    text
}

/// A text within a table.
fn cell(text: &str) -> String {
    let short: String = text.trim().chars().take(200).collect();
    let dots = if short.len() < text.trim().len() { " …" } else { "" };
    let line = short.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}{dots}", line.replace('|', "\\|").replace('<', "&lt;"))
}

/// Three panels: reward, cost, λ.
pub fn curves(runs: &[Vec<Value>; 2]) -> String {
    const COLOURS: [&str; 2] = ["#1f6feb", "#d1495b"];
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 260\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"900\" height=\"260\" fill=\"#fff\"/>\n",
    );
    for (panel, name) in ["reward", "cost", "lambda"].into_iter().enumerate() {
        let all = runs.iter().flatten().filter_map(|line| line[name].as_f64());
        let (low, high) = all.fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
        let left = 50.0 + 290.0 * panel as f64;
        let y = |value: f64| 220.0 - 180.0 * (value - low) / (high - low).max(1e-9);
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"24\">{name}</text>");
        for value in [low, 0.0, high] {
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ccc\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\" fill=\"#555\">{value:.2}</text>",
                left + 230.0,
                y(value),
                y(value),
                left - 4.0,
                y(value) + 4.0
            );
        }
        for (run, lines) in runs.iter().enumerate() {
            let values: Vec<f64> = lines.iter().filter_map(|line| line[name].as_f64()).collect();
            let step = 230.0 / (values.len().max(2) - 1) as f64;
            let points: Vec<String> = values
                .iter()
                .enumerate()
                .map(|(at, value)| format!("{:.1},{:.1}", left + step * at as f64, y(*value)))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>",
                COLOURS[run],
                points.join(" ")
            );
        }
    }
    for (run, name) in RUNS.iter().enumerate() {
        let _ = writeln!(svg, "<text x=\"{}\" y=\"250\" fill=\"{}\">{name}</text>", 50 + 200 * run, COLOURS[run]);
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_last_one() {
        let once = inserted("# Title\n\nText.\n", "first");
        assert!(once.starts_with("# Title\n\nText.\n\n<!--") && once.contains("first"));
        let twice = inserted(&once, "second");
        assert!(!twice.contains("first") && twice.contains("second"));
        assert_eq!(twice, inserted(&twice, "second"));
    }

    #[test]
    fn runs_become_numbers_and_lines() {
        let lines = |sign: f64| -> Vec<Value> {
            let line = |at: i32| json!({ "reward": f64::from(at), "cost": sign * f64::from(at), "lambda": 1.0 });
            (0..6).map(line).collect()
        };
        let runs = [lines(-1.0), lines(1.0)];
        let results = json!({ "rounds": [{ "prompt": "a|b", "red": { "text": "<x>", "reward": 1, "cost": 0 },
            "blue": { "text": "y", "reward": 2, "cost": -1 } }] });
        let text = section(&runs, &results, 6);
        assert!(text.contains("| PPO-Lagrangian | 1.000 | 3.000 | -1.000 | -3.000 | 1.000 |"), "{text}");
        assert!(text.contains("| a\\|b | &lt;x> | 1.00, 0.00 | y | 2.00, -1.00 |"), "{text}");
        assert_eq!(curves(&runs).matches("<polyline").count(), 6);
    }
}
