//! The picture that Self-Instruct and Alpaca show of their instructions: verbs in the inner ring, their objects in the outer
//! one, each as wide as its instructions are many.

use std::f64::consts::TAU;
use std::fmt::Write;

use super::{Diversity, Verb};

/// Where the ring of verbs begins and ends, from the centre, in the picture's own units.
const INNER: [f64; 2] = [90.0, 220.0];
/// The same of the ring of objects.
const OUTER: [f64; 2] = [222.0, 350.0];

/// A part of a ring. The centre of the picture is the origin, and its radius 350.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sector {
    /// Whether it is a verb, in the inner ring; else it is an object.
    pub is_verb: bool,
    /// Its colour's hue in degrees. A verb and its objects have the same.
    pub hue: usize,
    /// Its outline, as a path of SVG.
    pub path: String,
    /// What it stands for, with its share.
    pub title: String,
    /// Its label, if there is room for one.
    pub label: Option<Label>,
}

/// Text in a sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// As much of it as there is room for.
    pub text: String,
    /// Where its middle stands and how it is turned, as a transformation of SVG.
    pub transform: String,
    /// Whether there is room for letters that are twice as large.
    pub has_room: bool,
}

impl Diversity {
    /// The sectors of the picture, each verb before its objects.
    pub fn sectors(&self) -> Vec<Sector> {
        let shown = |verb: &Verb| verb.objects.iter().map(|(_, count)| count).sum::<usize>();
        let total = self.verbs.iter().map(shown).sum::<usize>().max(1) as f64;
        let mut sectors = Vec::new();
        let mut start = 0.0;
        for (index, verb) in self.verbs.iter().enumerate() {
            let hue = index * 360 / self.verbs.len().max(1);
            let mut add = |is_verb, place, label: &str, of: &str, count| {
                let ring = if is_verb { INNER } else { OUTER };
                let plural = if count == 1 { "" } else { "s" };
                let title = format!("{of}: {count} instruction{plural}, {}", self.share(count));
                sectors.push(Sector {
                    is_verb,
                    hue,
                    path: outline(ring, place),
                    title,
                    label: Label::of(label, ring, place),
                });
            };
            add(true, [start, shown(verb) as f64 / total], &verb.verb, &verb.verb, verb.count);
            for (object, count) in &verb.objects {
                let width = *count as f64 / total;
                add(false, [start, width], object, &format!("{} {object}", verb.verb), *count);
                start += width;
            }
        }
        sectors
    }

    /// The picture for any browser. Resting the pointer on a sector tells its share; light and dark follow the browser's.
    pub fn sunburst(&self) -> String {
        let mut svg = String::from(HEAD);
        for Sector { is_verb, hue, path, title, label } in self.sectors() {
            let (class, title) = (if is_verb { "verb" } else { "object" }, escaped(&title));
            let _ = write!(
                svg,
                "<g class=\"{class}\" style=\"--hue: {hue}\"><path d=\"{path}\"><title>{title}</title></path>"
            );
            if let Some(Label { text, transform, .. }) = label {
                let _ = write!(svg, "<text transform=\"{transform}\">{}</text>", escaped(&text));
            }
            svg.push_str("</g>\n");
        }
        svg.push_str("</svg>\n");
        svg
    }
}

const HEAD: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="-360 -360 720 720" role="img" aria-label="Verbs and their objects">
<style>
svg { font: 13px system-ui, sans-serif; background: #fff; }
path { stroke: #fff; stroke-width: 1; }
path:hover { opacity: .75; }
.verb { --light: 62%; } .object { --light: 80%; }
path { fill: hsl(var(--hue) 65% var(--light)); }
text { fill: #1a1a1a; text-anchor: middle; dominant-baseline: central; pointer-events: none; }
.verb text { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  svg { background: #14161a; } path { stroke: #14161a; }
  .verb { --light: 42%; } .object { --light: 28%; } text { fill: #f2f2f2; }
}
</style>
"#;

/// The outline of a part of a ring. `place` is where it begins and how wide it is, in turns.
fn outline([inner, outer]: [f64; 2], [start, width]: [f64; 2]) -> String {
    // A whole turn has the same beginning and end, which SVG draws as nothing.
    let end = start + width.min(0.9999);
    let large = u8::from(width > 0.5);
    let [a, b, c, d] = [(start, outer), (end, outer), (end, inner), (start, inner)].map(|(turn, radius)| {
        let [x, y] = point(turn, radius);
        format!("{x:.2} {y:.2}")
    });
    format!("M{a} A{outer} {outer} 0 {large} 1 {b} L{c} A{inner} {inner} 0 {large} 0 {d} Z")
}

/// Where a radius ends that is turned clockwise from the top.
fn point(turn: f64, radius: f64) -> [f64; 2] {
    let angle = turn * TAU - TAU / 4.0;
    [radius * angle.cos(), radius * angle.sin()]
}

impl Label {
    /// The label of a sector, along the radius, if it is high enough there.
    fn of(text: &str, [inner, outer]: [f64; 2], [start, width]: [f64; 2]) -> Option<Self> {
        let (turn, radius) = (start + width / 2.0, (inner + outer) / 2.0);
        let height = width * TAU * radius;
        // Never upside down.
        let angle = if turn < 0.5 { turn * 360.0 - 90.0 } else { turn * 360.0 + 90.0 };
        let most = ((outer - inner) / 7.2) as usize;
        let text = match text.chars().count() > most {
            true => text.chars().take(most - 1).chain(['…']).collect(),
            false => text.to_string(),
        };
        let [x, y] = point(turn, radius);
        let transform = format!("translate({x:.2},{y:.2}) rotate({angle:.1})");
        (height > 14.0).then_some(Self { text, transform, has_room: height > 28.0 })
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_a_sector_for_each() {
        let write = ["Write a story.", "Write a story about rain.", "Write a poem.", "Write an essay."];
        let diversity = Diversity::of(write.into_iter().chain(["Name three colours.", "Describe the picture."]));
        let svg = diversity.sunburst();
        assert_eq!(svg.matches("<path ").count(), 3 + 5);
        assert!(svg.contains("<title>write story: 2 instructions, 33.3 %</title>"), "{svg}");
        assert!(svg.contains(">essay</text>"), "{svg}");
        assert!(Diversity::of([]).sunburst().ends_with("</svg>\n"));
        // One verb with one object is a whole ring.
        assert_eq!(Diversity::of(["Write a story."]).sunburst().matches(" 0 1 1 ").count(), 2);
    }

    #[test]
    fn a_label_needs_room() {
        let label = |width| Label::of("write", INNER, [0.25, width]);
        assert_eq!(label(0.01), None);
        let [small, large] = [0.02, 0.2].map(|width| label(width).unwrap());
        assert_eq!((small.has_room, large.has_room, large.text.as_str()), (false, true, "write"));
        assert_eq!(small.transform, "translate(154.69,9.73) rotate(3.6)");
        assert_eq!(Label::of("an object of many words", OUTER, [0.5, 0.1]).unwrap().text, "an object of man…");
    }
}
