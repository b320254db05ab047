//! The geometry of a chart, and the look of its lines.

/// More points than this show no more detail on a screen.
const MOST_POINTS: usize = 1200;

/// The look of a run's line: colour and dashes.
pub struct Stroke {
    /// A custom property of the theme.
    pub colour: &'static str,
    /// SVG's `stroke-dasharray`.
    pub dashes: &'static str,
}

/// Strokes, in the order in which runs are opened.
pub const STROKES: [Stroke; 6] = [
    Stroke { colour: "var(--run-1)", dashes: "none" },
    Stroke { colour: "var(--run-2)", dashes: "7 3" },
    Stroke { colour: "var(--run-3)", dashes: "2 3" },
    Stroke { colour: "var(--run-1)", dashes: "10 3 2 3" },
    Stroke { colour: "var(--run-2)", dashes: "none" },
    Stroke { colour: "var(--run-3)", dashes: "12 4" },
];

/// An axis: a range of values and the length on which it is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    length: f64,
}

impl Axis {
    /// An axis for `values` on `length`; a single value gets some room around it. `None` without values.
    pub fn fit(values: impl Iterator<Item = f64>, length: f64) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        if low == high {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - room, high + room);
        }
        Some(Self { low, high, length })
    }

    /// Where `value` is drawn.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low) * self.length
    }

    /// The value at `place`.
    pub fn value(&self, place: f64) -> f64 {
        (self.low + place / self.length * (self.high - self.low)).clamp(self.low, self.high)
    }

    /// Round numbers in the range, about `count` of them: 1, 2 or 5 times a power of ten apart.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(power * 10.0);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last.min(first.saturating_add(100))).map(|index| index as f64 * step).collect()
    }
}

/// An SVG path through `points`; its y axis points up on a chart `height` high. Of many neighbouring points only the
/// extremes are kept, so that no spike is lost. A single point is a short line.
pub fn path(points: &[(f64, f64)], x: &Axis, y: &Axis, height: f64) -> String {
    let mut path = String::new();
    let bucket = points.len().div_ceil(MOST_POINTS / 2).max(1);
    let mut draw = |(step, value): (f64, f64)| {
        let command = if path.is_empty() { 'M' } else { 'L' };
        path.push_str(&format!("{command}{:.1} {:.1}", x.place(step), height - y.place(value)));
    };
    for bucket in points.chunks(bucket) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (bucket.iter().min_by(by_value), bucket.iter().max_by(by_value));
        match (low, high) {
            (Some(low), Some(high)) if low.0 < high.0 => [*low, *high].map(&mut draw).map(drop),
            (Some(low), Some(high)) if high.0 < low.0 => [*high, *low].map(&mut draw).map(drop),
            (Some(only), _) => [draw(*only), ()],
            _ => [(), ()],
        };
    }
    if points.len() == 1 {
        path.push_str("m-2 0h4");
    }
    path
}

/// An SVG path around the bars of a histogram whose bins share the whole of `x`.
pub fn bars(counts: &[f64], x: &Axis, y: &Axis, height: f64) -> String {
    let mut path = format!("M0 {height}");
    for (bin, count) in counts.iter().enumerate() {
        let end = (bin + 1) as f64 / counts.len() as f64 * x.length;
        path.push_str(&format!("V{:.1}H{end:.1}", height - y.place(*count)));
    }
    path + &format!("V{height}Z")
}

/// A value as shown on an axis.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_string()
    } else if (1e-3..1e5).contains(&size) {
        let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
    } else {
        // "1.50e-5" is "1.5e-5".
        let text = format!("{value:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_holds_its_values() {
        let scale = Axis::fit([2.0, f64::NAN, 4.0].into_iter(), 100.0).unwrap();
        assert_eq!((scale.place(2.0), scale.place(3.0), scale.place(4.0)), (0.0, 50.0, 100.0));
        assert_eq!((scale.value(50.0), scale.value(500.0)), (3.0, 4.0));
        assert_eq!(scale.ticks(4), [2.0, 2.5, 3.0, 3.5, 4.0]);
        assert!(Axis::fit(std::iter::empty(), 1.0).is_none());
        let single = Axis::fit(std::iter::once(2e-5), 10.0).unwrap();
        assert!((single.place(2e-5) - 5.0).abs() < 1e-9);
        assert!(Axis::fit([0.0, 0.0].into_iter(), 10.0).unwrap().ticks(3).contains(&0.0));
    }

    #[test]
    fn a_spike_survives_among_many_points() {
        let points: Vec<(f64, f64)> =
            (0..100_000).map(|step| (f64::from(step), if step == 77_777 { 9.0 } else { 1.0 })).collect();
        let x = Axis::fit(points.iter().map(|point| point.0), 1000.0).unwrap();
        let y = Axis::fit(points.iter().map(|point| point.1), 100.0).unwrap();
        let path = path(&points, &x, &y, 100.0);
        assert!(path.len() < 30_000, "{}", path.len());
        assert!(path.starts_with('M') && path.contains(" 0.0"), "the spike reaches the top");
        assert_eq!(super::path(&[(0.0, 1.0)], &x, &y, 100.0), "M0.0 100.0m-2 0h4");
    }

    #[test]
    fn bars_stand_on_the_axis() {
        let (x, y) = (Axis::fit([-1.0, 1.0].into_iter(), 50.0), Axis::fit([0.0, 4.0].into_iter(), 100.0));
        assert_eq!(bars(&[1.0, 4.0], &x.unwrap(), &y.unwrap(), 100.0), "M0 100V75.0H25.0V0.0H50.0V100Z");
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (2.5, "2.5"),
            (0.123456, "0.1235"),
            (1234.5, "1234"),
            (2e-5, "2e-5"),
            (-1.5e-5, "-1.5e-5"),
            (3e6, "3e6"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
