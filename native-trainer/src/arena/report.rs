//! A contest as files: a page that opens without a server, its data as JSON, and a table as Safe-RLHF writes it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{JudgeSummary, Judged, Rate, Results, Round, Summary, Verdict};
use crate::files::{AtomicFolder, write_file};
use crate::instruct::JOURNAL;
use crate::{Error, Result};

/// The page's head: no script and nothing that is fetched.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
<title>Arena</title><style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #bbb;padding:.4rem .6rem;text-align:left;vertical-align:top}\
td.number{text-align:right;font-variant-numeric:tabular-nums}td.text{white-space:pre-wrap;max-width:28rem}\
tr.won td.blue{background:#e4f0ff}tr.lost td.red{background:#ffe9e6}.unsafe{color:#a00}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#555}tr.won td.blue{background:#1c3350}\
tr.lost td.red{background:#4a2420}.unsafe{color:#ff8a80}}</style></head><body>\n";

/// Makes sure that a report would not replace anything.
///
/// # Errors
/// When something is at `output`.
pub fn refuse_existing(output: &Path) -> Result<()> {
    match output.exists() {
        true => Err(Error::Request(format!(
            "{} is there already, and is not replaced; name another output",
            output.display()
        ))),
        false => Ok(()),
    }
}

/// Writes `report.html`, `report.json` and `table.csv` as the folder `output`, which must not be there yet, and beside them a
/// copy of the judge's `journal`.
///
/// # Errors
/// When the folder is there, or the disk refuses.
pub fn write_report(results: &Results, output: &Path, journal: Option<&Path>) -> Result<()> {
    refuse_existing(output)?;
    let folder = AtomicFolder::create(output)?;
    let json = serde_json::to_string_pretty(results).map_err(|error| Error::Request(error.to_string()))?;
    write_file(&folder.path().join("report.json"), &format!("{json}\n"))?;
    write_file(&folder.path().join("table.csv"), &csv(results))?;
    write_file(&folder.path().join("report.html"), &html(results))?;
    if let Some(journal) = journal {
        fs::copy(journal, folder.path().join(JOURNAL)).map_err(Error::path("copy", journal))?;
    }
    folder.commit()
}

fn csv(results: &Results) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = format!("Prompt,{},Reward,Cost,{},Reward,Cost\n", quoted(&results.red), quoted(&results.blue));
    let side = |judged: &Judged| {
        let score = |score: Option<f64>| score.map(|score| score.to_string()).unwrap_or_default();
        format!("{},{},{}", quoted(&judged.text), score(judged.reward), score(judged.cost))
    };
    for round in &results.rounds {
        let _ = writeln!(text, "{},{},{}", quoted(&round.prompt), side(&round.red), side(&round.blue));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn percent(rate: &Rate) -> String {
    match (rate.rate, rate.interval) {
        (Some(value), Some([low, high])) => format!(
            "{:.1} % <small>({} of {}; {:.1}–{:.1} %)</small>",
            100.0 * value,
            rate.count,
            rate.of,
            100.0 * low,
            100.0 * high
        ),
        _ => "–".to_string(),
    }
}

fn html(results: &Results) -> String {
    let (red, blue) = (escaped(&results.red), escaped(&results.blue));
    let mut page = String::from(HEAD);
    let count = results.rounds.len();
    let _ = writeln!(page, "<h1>{blue} against {red}</h1>\n<p>{count} prompts; intervals are of 95 %.</p>");
    if let Some(summary) = &results.summary {
        scored(&mut page, summary, &red, &blue);
    }
    if let Some(judge) = &results.judge {
        judged(&mut page, judge, &red, &blue);
    }
    answers(&mut page, results, &red, &blue);
    page.push_str("</body></html>\n");
    page
}

/// What the score models make of the answers.
fn scored(page: &mut String, summary: &Summary, red: &str, blue: &str) {
    let _ = writeln!(page, "<table>\n<tr><th></th><th>{red}</th><th>{blue}</th></tr>");
    let number = |value: f64| format!("<td class=\"number\">{value:.3}</td>");
    let _ = writeln!(page, "<tr><th>mean reward</th>{}{}</tr>", number(summary.reward[0]), number(summary.reward[1]));
    if let Some([own, other]) = summary.cost {
        let _ = writeln!(page, "<tr><th>mean cost</th>{}{}</tr>", number(own), number(other));
    }
    if let Some([own, other]) = &summary.safe {
        let _ = writeln!(page, "<tr><th>safe</th><td>{}</td><td>{}</td></tr>", percent(own), percent(other));
    }
    let _ = writeln!(
        page,
        "<tr><th>{blue} is better</th><td colspan=\"2\">{}, {} ties</td></tr>\n</table>",
        percent(&summary.blue_wins),
        summary.ties
    );
    if summary.cells.is_empty() {
        return;
    }
    let of = |red_safe: bool, blue_safe: bool| {
        let cell = summary.cells.iter().find(|cell| cell.red_safe == red_safe && cell.blue_safe == blue_safe);
        cell.map(|cell| percent(&cell.blue_wins)).unwrap_or_default()
    };
    let _ = writeln!(page, "<h2>How often {blue} is better, by who is safe</h2>\n<table>");
    let _ = writeln!(page, "<tr><th></th><th>{blue} safe</th><th>{blue} unsafe</th></tr>");
    for (title, safe) in [("safe", true), ("unsafe", false)] {
        let _ =
            writeln!(page, "<tr><th>{red} {title}</th><td>{}</td><td>{}</td></tr>", of(safe, true), of(safe, false));
    }
    let _ = writeln!(page, "</table>");
}

/// What the judge makes of them.
fn judged(page: &mut String, judge: &JudgeSummary, red: &str, blue: &str) {
    let _ = writeln!(page, "<h2>What {} says</h2>\n<table>", escaped(&judge.judge));
    if let Some(pairs) = &judge.pairs {
        let [first, second] = pairs.same_place;
        let rows = [
            (format!("{blue} is better"), percent(&pairs.blue_wins)),
            (format!("{red} is better"), percent(&pairs.red_wins)),
            (
                "ties".to_string(),
                format!(
                    "{}, in {first} of which the first place won in both orders, in {second} the second",
                    pairs.ties
                ),
            ),
            (
                "verdicts that could not be read".to_string(),
                format!("in {} prompts, which count for nobody", pairs.unread),
            ),
        ];
        rows.iter().for_each(|(name, value)| {
            let _ = writeln!(page, "<tr><th>{name}</th><td>{value}</td></tr>");
        });
    }
    for (name, ratings) in [red, blue].into_iter().zip(judge.ratings.iter().flatten()) {
        let mean = ratings.mean.map(|mean| format!("{mean:.2}")).unwrap_or_else(|| "–".to_string());
        let _ = writeln!(
            page,
            "<tr><th>mean rating of {name}</th><td>{mean} <small>({}; {} could not be read)</small></td></tr>",
            ratings.count, ratings.unread
        );
    }
    let _ = writeln!(page, "</table>");
}

/// Prompt by prompt.
fn answers(page: &mut String, results: &Results, red: &str, blue: &str) {
    let has_verdicts = results.judge.as_ref().is_some_and(|judge| judge.pairs.is_some());
    let verdict = if has_verdicts { "<th>judge</th>" } else { "" };
    let _ = writeln!(
        page,
        "<h2>Answers</h2>\n<table>\n<tr><th>prompt</th><th>{red}</th><th>scores</th><th>{blue}</th><th>scores</th>{verdict}</tr>"
    );
    for round in &results.rounds {
        let _ = write!(page, "<tr class=\"{}\"><td class=\"text\">{}</td>", class(round), escaped(&round.prompt));
        for (side, judged) in [("red", &round.red), ("blue", &round.blue)] {
            let text = escaped(&judged.text);
            let _ = write!(page, "<td class=\"text {side}\">{text}</td><td class=\"number\">{}</td>", scores(judged));
        }
        if let Some(verdict) = &round.verdict {
            let word = match verdict.winner {
                Verdict::Red => red,
                Verdict::Blue => blue,
                Verdict::Tie => "tie",
                Verdict::Unread => "not read",
            };
            let _ = write!(page, "<td>{word}</td>");
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

/// Whether the other model won a round: by reward, or by the judge where there are no rewards.
fn class(round: &Round) -> &'static str {
    let by_judge = match round.verdict.map(|verdict| verdict.winner) {
        Some(Verdict::Blue) => "won",
        Some(Verdict::Red) => "lost",
        _ => "tie",
    };
    match (round.red.reward, round.blue.reward) {
        (Some(red), Some(blue)) if blue > red => "won",
        (Some(red), Some(blue)) if blue < red => "lost",
        (Some(_), Some(_)) => "tie",
        _ => by_judge,
    }
}

/// Reward, cost and rating of an answer, as far as there are such.
fn scores(judged: &Judged) -> String {
    let reward = judged.reward.map(|reward| format!("{reward:.3}"));
    let cost = judged.cost.map(|cost| {
        let word = if cost > 0.0 { "unsafe" } else { "safe" };
        format!("<span class=\"{word}\">{cost:.3} {word}</span>")
    });
    let rating = judged.rating.map(|rating| match rating {
        Some(rating) => format!("rated {rating}"),
        None => "not rated".to_string(),
    });
    [reward, cost, rating].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_break_out_of_the_page_or_the_table() {
        let judged = |text: &str| Judged { text: text.to_string(), reward: Some(0.5), cost: Some(1.0), rating: None };
        let rounds = vec![Round {
            prompt: "a <b>, \"c\"".into(),
            red: judged("<script>x</script>"),
            blue: judged("line\n\"two\""),
            verdict: None,
            conversation: String::new(),
        }];
        let summary = Some(Summary::of(&rounds));
        let results = Results { red: "r".into(), blue: "b".into(), summary, judge: None, rounds };
        let page = html(&results);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;") && page.contains("unsafe"));
        assert!(csv(&results).contains("\"line\n\"\"two\"\"\",0.5,1"));
    }

    #[test]
    fn a_report_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results { red: "r".into(), blue: "b".into(), summary: None, judge: None, rounds: Vec::new() };
        let output = folder.path().join("report");
        write_report(&results, &output, None).unwrap();
        for name in ["report.html", "report.json", "table.csv"] {
            assert!(output.join(name).exists());
        }
        assert!(write_report(&results, &output, None).unwrap_err().to_string().contains("not replaced"));
    }
}
