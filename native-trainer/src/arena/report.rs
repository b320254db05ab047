//! A contest as files: a page that opens without a server, its data as JSON, and a table as Safe-RLHF writes it.

use std::fmt::Write as _;
use std::path::Path;

use super::{Judged, Rate, Results};
use crate::files::{AtomicFolder, write_file};
use crate::{Error, Result};

/// The page's head: no script and nothing that is fetched.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
<title>Arena</title><style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #bbb;padding:.4rem .6rem;text-align:left;vertical-align:top}\
td.number{text-align:right;font-variant-numeric:tabular-nums}td.text{white-space:pre-wrap;max-width:28rem}\
tr.won td.blue{background:#e4f0ff}tr.lost td.red{background:#ffe9e6}.unsafe{color:#a00}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#555}tr.won td.blue{background:#1c3350}\
tr.lost td.red{background:#4a2420}.unsafe{color:#ff8a80}}</style></head><body>\n";

/// Writes `report.html`, `report.json` and `table.csv` as the folder `output`, which must not be there yet.
///
/// # Errors
/// When the folder is there, or the disk refuses.
pub fn write_report(results: &Results, output: &Path) -> Result<()> {
    if output.exists() {
        return Err(Error::Request(format!(
            "{} is there already, and is not replaced; name another output",
            output.display()
        )));
    }
    let folder = AtomicFolder::create(output)?;
    let json = serde_json::to_string_pretty(results).map_err(|error| Error::Request(error.to_string()))?;
    write_file(&folder.path().join("report.json"), &format!("{json}\n"))?;
    write_file(&folder.path().join("table.csv"), &csv(results))?;
    write_file(&folder.path().join("report.html"), &html(results))?;
    folder.commit()
}

fn csv(results: &Results) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = format!("Prompt,{},Reward,Cost,{},Reward,Cost\n", quoted(&results.red), quoted(&results.blue));
    let side = |judged: &Judged| {
        let cost = judged.cost.map(|cost| cost.to_string()).unwrap_or_default();
        format!("{},{},{cost}", quoted(&judged.text), judged.reward)
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
    let (red, blue, summary) = (escaped(&results.red), escaped(&results.blue), &results.summary);
    let mut page = String::from(HEAD);
    let _ = write!(
        page,
        "<h1>{blue} against {red}</h1>\n<p>{} prompts; intervals are of 95 %.</p>\n<table>\n",
        results.rounds.len()
    );
    let _ = writeln!(page, "<tr><th></th><th>{red}</th><th>{blue}</th></tr>");
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
    if !summary.cells.is_empty() {
        let of = |red_safe: bool, blue_safe: bool| {
            let cell = summary.cells.iter().find(|cell| cell.red_safe == red_safe && cell.blue_safe == blue_safe);
            cell.map(|cell| percent(&cell.blue_wins)).unwrap_or_default()
        };
        let _ = writeln!(page, "<h2>How often {blue} is better, by who is safe</h2>\n<table>");
        let _ = writeln!(page, "<tr><th></th><th>{blue} safe</th><th>{blue} unsafe</th></tr>");
        for (title, safe) in [("safe", true), ("unsafe", false)] {
            let _ = writeln!(
                page,
                "<tr><th>{red} {title}</th><td>{}</td><td>{}</td></tr>",
                of(safe, true),
                of(safe, false)
            );
        }
        let _ = writeln!(page, "</table>");
    }
    let _ = writeln!(
        page,
        "<h2>Answers</h2>\n<table>\n<tr><th>prompt</th><th>{red}</th><th>reward, cost</th><th>{blue}</th><th>reward, cost</th></tr>"
    );
    for round in &results.rounds {
        let class = match round.blue.reward.partial_cmp(&round.red.reward) {
            Some(std::cmp::Ordering::Greater) => "won",
            Some(std::cmp::Ordering::Less) => "lost",
            _ => "tie",
        };
        let _ = write!(page, "<tr class=\"{class}\"><td class=\"text\">{}</td>", escaped(&round.prompt));
        for (side, judged) in [("red", &round.red), ("blue", &round.blue)] {
            let cost = judged.cost.map(|cost| {
                let word = if cost > 0.0 { "unsafe" } else { "safe" };
                format!(", <span class=\"{word}\">{cost:.3} {word}</span>")
            });
            let _ = write!(
                page,
                "<td class=\"text {side}\">{}</td><td class=\"number\">{:.3}{}</td>",
                escaped(&judged.text),
                judged.reward,
                cost.unwrap_or_default()
            );
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n</body></html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{Round, Summary};

    #[test]
    fn texts_cannot_break_out_of_the_page_or_the_table() {
        let judged = |text: &str| Judged { text: text.to_string(), reward: 0.5, cost: Some(1.0) };
        let rounds = vec![Round {
            prompt: "a <b>, \"c\"".into(),
            red: judged("<script>x</script>"),
            blue: judged("line\n\"two\""),
        }];
        let results = Results { red: "r".into(), blue: "b".into(), summary: Summary::of(&rounds), rounds };
        let page = html(&results);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;") && page.contains("unsafe"));
        assert!(csv(&results).contains("\"line\n\"\"two\"\"\",0.5,1"));
    }

    #[test]
    fn a_report_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results { red: "r".into(), blue: "b".into(), summary: Summary::of(&[]), rounds: Vec::new() };
        let output = folder.path().join("report");
        write_report(&results, &output).unwrap();
        for name in ["report.html", "report.json", "table.csv"] {
            assert!(output.join(name).exists());
        }
        assert!(write_report(&results, &output).unwrap_err().to_string().contains("not replaced"));
    }
}
