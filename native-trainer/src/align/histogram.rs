//! The distribution of scores as a picture.

use std::fmt::Write as _;

/// Bins of a histogram.
const BINS: usize = 50;
/// Width and height of the picture in pixels, and the margin around the bars.
const SIZE: [f64; 2] = [640.0, 320.0];
const MARGIN: f64 = 40.0;
/// Colours of the sets of scores.
const COLOURS: [&str; 2] = ["#2a7fb8", "#d95f3b"];

/// An SVG picture of two sets of scores over each other, with the names of the sets.
pub fn histogram(title: &str, sets: [(&str, &[f64]); 2]) -> String {
    let finite = sets.iter().flat_map(|(_, scores)| scores.iter().copied()).filter(|score| score.is_finite());
    let (min, max) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), score| (min.min(score), max.max(score)));
    let (min, max) = match max - min {
        width if width > 0.0 => (min, max),
        // All scores are one.
        0.0 => (min - 0.5, max + 0.5),
        _ => (0.0, 1.0),
    };
    let counts = sets.map(|(_, scores)| {
        let mut counts = [0usize; BINS];
        for score in scores.iter().filter(|score| score.is_finite()) {
            let bin = ((score - min) / (max - min) * BINS as f64) as usize;
            counts[bin.min(BINS - 1)] += 1;
        }
        counts
    });
    let most = counts.as_flattened().iter().copied().max().unwrap_or_default().max(1) as f64;
    let [width, height] = SIZE;
    let (inner_width, inner_height) = (width - 2.0 * MARGIN, height - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n<text x=\"{MARGIN}\" y=\"20\">{}</text>\n",
        escaped(title)
    );
    for ((counts, colour), (index, (name, _))) in counts.iter().zip(COLOURS).zip(sets.iter().enumerate()) {
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
    for (at, value) in [(0.0, min), (0.5, (min + max) / 2.0), (1.0, max)] {
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
        let svg = histogram("a < b", [("better", &[0.0, 0.0, 1.0]), ("worse", &[0.5])]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("a &lt; b"));
        assert_eq!(svg.matches("fill-opacity").count(), 3, "{svg}");
        assert!(svg.contains(">0.000<") && svg.contains(">1.000<"));
    }

    #[test]
    fn scores_that_cannot_be_drawn_do_no_harm() {
        for scores in [&[][..], &[f64::NAN], &[2.0, 2.0], &[f64::INFINITY, 1.0]] {
            let svg = histogram("t", [("a", scores), ("b", &[])]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
