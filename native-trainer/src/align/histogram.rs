//! The distribution of scores, in numbers and as a picture.

use std::fmt::Write as _;

use serde::Serialize;

/// Bins of a histogram.
const BINS: usize = 50;
/// Width and height of the picture in pixels, and the margin around the bars.
const SIZE: [f64; 2] = [640.0, 320.0];
const MARGIN: f64 = 40.0;
/// Colours of the sets of scores.
const COLOURS: [&str; 2] = ["#2a7fb8", "#d95f3b"];

/// How two sets of scores are spread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distribution {
    /// Where the first bin begins.
    pub low: f64,
    /// Where the last bin ends. All bins are equally wide.
    pub high: f64,
    /// The sets.
    pub sets: [Counts; 2],
}

/// Scores of a set, by bins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// Of what the scores are.
    pub name: &'static str,
    /// Scores in each bin.
    pub counts: Vec<usize>,
}

impl Distribution {
    /// Counts the finite scores of named sets.
    pub fn new(sets: [(&'static str, Vec<f64>); 2]) -> Self {
        let finite = sets.iter().flat_map(|(_, scores)| scores.iter().copied()).filter(|score| score.is_finite());
        let (min, max) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), score| (min.min(score), max.max(score)));
        let (low, high) = match max - min {
            width if width > 0.0 => (min, max),
            // All scores are one.
            0.0 => (min - 0.5, max + 0.5),
            _ => (0.0, 1.0),
        };
        let sets = sets.map(|(name, scores)| {
            let mut counts = vec![0usize; BINS];
            for score in scores.iter().filter(|score| score.is_finite()) {
                let bin = ((score - low) / (high - low) * BINS as f64) as usize;
                counts[bin.min(BINS - 1)] += 1;
            }
            Counts { name, counts }
        });
        Self { low, high, sets }
    }
}

/// An SVG picture of two sets of scores over each other, with the names of the sets.
pub fn histogram(title: &str, Distribution { low, high, sets }: &Distribution) -> String {
    let most = sets.iter().flat_map(|set| &set.counts).copied().max().unwrap_or_default().max(1) as f64;
    let [width, height] = SIZE;
    let (inner_width, inner_height) = (width - 2.0 * MARGIN, height - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n<text x=\"{MARGIN}\" y=\"20\">{}</text>\n",
        escaped(title)
    );
    for ((index, Counts { name, counts }), colour) in sets.iter().enumerate().zip(COLOURS) {
        let bar = inner_width / BINS as f64;
        for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (x, tall) = (MARGIN + bin as f64 * bar, *count as f64 / most * inner_height);
            let y = height - MARGIN - tall;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{bar:.2}\" height=\"{tall:.2}\" fill=\"{colour}\" fill-opacity=\"0.5\"/>"
            );
        }
        let (x, y) = (width - MARGIN - 140.0, 20.0 + 16.0 * index as f64);
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{}</text>", escaped(name));
    }
    let base = height - MARGIN;
    let _ =
        writeln!(svg, "<line x1=\"{MARGIN}\" y1=\"{base}\" x2=\"{}\" y2=\"{base}\" stroke=\"black\"/>", width - MARGIN);
    for (at, value) in [(0.0, *low), (0.5, low.midpoint(*high)), (1.0, *high)] {
        let x = MARGIN + at * inner_width;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{value:.3}</text>", base + 16.0);
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_bar_for_every_filled_bin() {
        let distribution = Distribution::new([("better", vec![0.0, 0.0, 1.0]), ("worse", vec![0.5])]);
        let [better, worse] = &distribution.sets;
        assert_eq!((better.counts[0], better.counts[BINS - 1], worse.counts[BINS / 2]), (2, 1, 1));
        let svg = histogram("a < b", &distribution);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("a &lt; b"));
        assert_eq!(svg.matches("fill-opacity").count(), 3, "{svg}");
        assert!(svg.contains(">0.000<") && svg.contains(">1.000<"));
    }

    #[test]
    fn scores_that_cannot_be_drawn_do_no_harm() {
        for scores in [vec![], vec![f64::NAN], vec![2.0, 2.0], vec![f64::INFINITY, 1.0]] {
            let svg = histogram("t", &Distribution::new([("a", scores), ("b", vec![])]));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
