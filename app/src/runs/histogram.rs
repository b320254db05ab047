//! How often values occur.

use super::chart::{Axis, STROKES, bars, number};
use crate::markup::{Markup, element};

/// In the drawing's own units; it is scaled to fit.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 48.0;

/// A figure of sets of values by name, each as counts in bins of equal width between two values. `what` says what is shown.
pub fn histogram([low, high]: [f64; 2], sets: &[(String, Vec<f64>)], what: &str) -> Option<Markup> {
    let x = Axis::fit([low, high].into_iter(), WIDTH - LEFT)?;
    let y = Axis::fit(sets.iter().flat_map(|(_, counts)| counts.iter().copied()).chain([0.0]), HEIGHT)?;
    let names = sets.iter().zip(STROKES).map(|((name, _), stroke)| {
        let line = element("line").with("class", "line").with("x2", 28).with("y1", 4).with("y2", 4);
        let swatch = element("svg").with("class", "swatch").with("viewBox", "0 0 28 8").with("aria-hidden", true);
        let name = element("span").text(name.as_str());
        element("span").with("class", "hint").holding([swatch.holding([line.with("stroke", stroke.colour)]), name])
    });
    let areas = sets.iter().zip(STROKES).map(|((_, counts), stroke)| {
        let area = element("path").with("class", "area").with("d", bars(counts, &x, &y, HEIGHT));
        area.with("stroke", stroke.colour).with("fill", stroke.colour)
    });
    let lines = y.ticks(3).into_iter().flat_map(|value| {
        let place = HEIGHT - y.place(value);
        let line = element("line").with("class", "grid").with("x1", LEFT).with("x2", WIDTH);
        [line.with("y1", place).with("y2", place), label([LEFT - 8.0, place + 5.0], "end", value)]
    });
    let values = x.ticks(6).into_iter().map(|value| label([LEFT + x.place(value), HEIGHT + 20.0], "middle", value));
    let drawing = element("svg")
        .with("viewBox", format!("0 -8 {} {}", WIDTH + 8.0, HEIGHT + 32.0))
        .with("role", "img")
        .with("aria-label", what)
        .holding(lines)
        .holding(values)
        .holding([element("g").with("transform", format!("translate({LEFT} 0)")).holding(areas)]);
    Some(element("figure").with("class", "chart wide").holding([element("figcaption").holding(names), drawing]))
}

/// A value on an axis.
fn label([x, y]: [f64; 2], anchor: &str, value: f64) -> Markup {
    element("text").with("class", "label").with("x", x).with("y", y).with("text-anchor", anchor).text(number(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_has_its_name_and_its_area() {
        let sets = [("one".to_string(), vec![0.0, 4.0]), ("two".to_string(), vec![1.0, 2.0])];
        let figure = histogram([-1.0, 1.0], &sets, "what").unwrap();
        let [names, drawing] = &figure.inside[..] else { panic!("{figure:?}") };
        assert_eq!(names.all_text(), "onetwo");
        assert_eq!(drawing.inside.last().unwrap().inside.len(), 2);
        assert!(drawing.all_text().ends_with("-1-0.500.51"), "{}", drawing.all_text());
        assert_eq!(histogram([f64::NAN; 2], &sets, ""), None);
    }
}
