//! Which verbs and objects a set of instructions has: the table, and the picture that Self-Instruct and Alpaca show of it.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::fmt::Write;

use serde::Serialize;

use super::verbs::{Request, request};

/// Verbs of the inner ring.
const VERBS: usize = 20;
/// Objects of each in the outer ring.
const OBJECTS: usize = 4;

/// Verbs with their objects, the most frequent first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diversity {
    /// All instructions.
    pub instructions: usize,
    /// Those in which a verb with an object was found; only they are counted below.
    pub with_object: usize,
    /// Different pairs of verb and object.
    pub pairs: usize,
    /// The most frequent verbs.
    pub verbs: Vec<Verb>,
}

/// A verb of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verb {
    /// Its base form.
    pub verb: String,
    /// Instructions that have it, with any object.
    pub count: usize,
    /// Its most frequent objects, and how often each occurs with it.
    pub objects: Vec<(String, usize)>,
}

impl Diversity {
    /// Counts what `instructions` ask for.
    pub fn of<'a>(instructions: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut all, mut with_object) = (0, 0);
        let mut verbs: HashMap<String, HashMap<String, usize>> = HashMap::new();
        for instruction in instructions {
            all += 1;
            if let Some(Request { verb, object: Some(object) }) = request(instruction) {
                with_object += 1;
                *verbs.entry(verb).or_default().entry(object).or_default() += 1;
            }
        }
        let pairs = verbs.values().map(HashMap::len).sum();
        let verbs = verbs.into_iter().map(|(verb, objects)| {
            let count = objects.values().sum();
            Verb { verb, count, objects: most_frequent(objects, OBJECTS) }
        });
        let mut verbs: Vec<Verb> = verbs.collect();
        verbs.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.verb.cmp(&b.verb)));
        verbs.truncate(VERBS);
        Self { instructions: all, with_object, pairs, verbs }
    }

    /// The table as text, a verb a line.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{} instructions, {} with a verb and its object, {} different pairs\n",
            self.instructions, self.with_object, self.pairs
        );
        for Verb { verb, count, objects } in &self.verbs {
            let objects: Vec<String> = objects.iter().map(|(object, count)| format!("{object} {count}")).collect();
            let _ = writeln!(table, "{verb:<14}{count:>7}  {}", objects.join(", "));
        }
        table
    }

    /// A picture for any browser: verbs in the inner ring, their objects in the outer one, each arc as wide as its
    /// instructions are many. Resting the pointer on an arc tells its share; light and dark follow the browser's.
    pub fn sunburst(&self) -> String {
        let shown = |verb: &Verb| verb.objects.iter().map(|(_, count)| count).sum::<usize>();
        let total = self.verbs.iter().map(shown).sum::<usize>().max(1) as f64;
        let share = |count: usize| format!("{:.1} %", 100.0 * count as f64 / self.with_object.max(1) as f64);
        let mut svg = String::from(HEAD);
        let mut start = 0.0;
        for (index, verb) in self.verbs.iter().enumerate() {
            let hue = index * 360 / self.verbs.len().max(1);
            let width = shown(verb) as f64 / total;
            let title = format!("{}: {} instructions, {}", verb.verb, verb.count, share(verb.count));
            arc(&mut svg, "verb", hue, [90.0, 220.0], [start, width], &verb.verb, &title);
            for (object, count) in &verb.objects {
                let width = *count as f64 / total;
                let title = format!("{} {object}: {count} instructions, {}", verb.verb, share(*count));
                arc(&mut svg, "object", hue, [222.0, 350.0], [start, width], object, &title);
                start += width;
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// The first `count` of `counts`, the greatest first; equal ones in the order of their names.
fn most_frequent(counts: HashMap<String, usize>, count: usize) -> Vec<(String, usize)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(count);
    counts
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

/// One arc of a ring with its label, if there is room for it. `place` is where it begins and how wide it is, in turns.
fn arc(svg: &mut String, class: &str, hue: usize, [inner, outer]: [f64; 2], place: [f64; 2], label: &str, title: &str) {
    let [start, width] = place;
    // A whole turn has the same beginning and end, which SVG draws as nothing.
    let end = start + width.min(0.9999);
    let point = |turn: f64, radius: f64| {
        let angle = turn * TAU - TAU / 4.0;
        format!("{:.2} {:.2}", radius * angle.cos(), radius * angle.sin())
    };
    let large = u8::from(width > 0.5);
    let _ = write!(
        svg,
        "<g class=\"{class}\" style=\"--hue: {hue}\"><path d=\"M{} A{outer} {outer} 0 {large} 1 {} L{} A{inner} {inner} 0 {large} 0 {} Z\"><title>{}</title></path>",
        point(start, outer),
        point(end, outer),
        point(end, inner),
        point(start, inner),
        escaped(title),
    );
    let middle = start + width / 2.0;
    if width * TAU * (inner + outer) / 2.0 > 14.0 {
        // Along the radius, and never upside down.
        let turn = if middle < 0.5 { middle * 360.0 - 90.0 } else { middle * 360.0 + 90.0 };
        let most = ((outer - inner) / 7.2) as usize;
        let shown: String = match label.chars().count() > most {
            true => label.chars().take(most - 1).chain(['…']).collect(),
            false => label.to_string(),
        };
        let centre = point(middle, (inner + outer) / 2.0);
        let (x, y) = centre.split_once(' ').unwrap_or_default();
        let _ = write!(svg, "<text transform=\"translate({x},{y}) rotate({turn:.1})\">{}</text>", escaped(&shown));
    }
    svg.push_str("</g>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Diversity {
        let write = [
            "Write a story.",
            "Write a story about rain.",
            "Write a poem.",
            "Please write two poems!",
            "Write an essay.",
        ];
        let more = ["Name three colours.", "What is the capital of France?", "Describe the picture."];
        Diversity::of(write.into_iter().chain(more))
    }

    #[test]
    fn verbs_and_objects_are_counted() {
        let diversity = sample();
        assert_eq!((diversity.instructions, diversity.with_object, diversity.pairs), (8, 7, 5));
        let write = &diversity.verbs[0];
        assert_eq!((write.verb.as_str(), write.count), ("write", 5));
        let objects: Vec<_> = write.objects.iter().map(|(object, count)| (object.as_str(), *count)).collect();
        assert_eq!(objects, [("poem", 2), ("story", 2), ("essay", 1)]);
        assert!(diversity.table().contains("write               5  poem 2, story 2, essay 1"), "{}", diversity.table());
    }

    #[test]
    fn the_picture_has_an_arc_for_each() {
        let svg = sample().sunburst();
        assert_eq!(svg.matches("<path ").count(), 3 + 5);
        assert!(svg.contains("<title>write story: 2 instructions, 28.6 %</title>"));
        assert!(Diversity::of([]).sunburst().ends_with("</svg>\n"));
        // One verb with one object is a whole ring.
        assert_eq!(Diversity::of(["Write a story."]).sunburst().matches(" 0 1 1 ").count(), 2);
    }
}
