//! The distribution of scores, in numbers and as a picture.

use plotters::prelude::*;
use plotters::style::register_font;
use plotters_bitmap::BitMapBackendError;
use serde::Serialize;

use crate::{Error, Result};

/// Bins of a histogram.
const BINS: usize = 50;
/// Width and height of the picture in pixels.
const SIZE: (u32, u32) = (800, 400);
/// Colours of the sets of scores.
const COLOURS: [RGBColor; 2] = [RGBColor(0x2a, 0x7f, 0xb8), RGBColor(0xd9, 0x5f, 0x3b)];
/// DejaVu Sans, its ASCII letters only.
const FONT: &[u8] = include_bytes!("font/DejaVuSans-ascii.ttf");

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

/// A PNG picture of two sets of scores over each other, with the names of the sets.
///
/// # Errors
/// When the picture cannot be encoded.
pub fn histogram(title: &str, distribution: &Distribution) -> Result<Vec<u8>> {
    let fail = |error: String| Error::Request(format!("cannot draw the scores' distribution: {error}"));
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(&mut pixels, title, distribution).map_err(|error| fail(error.to_string()))?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.map_err(|error| fail(error.to_string()))?;
    Ok(file)
}

/// Draws into `pixels`, 8-bit RGB.
fn draw(
    pixels: &mut [u8],
    title: &str,
    Distribution { low, high, sets }: &Distribution,
) -> Result<(), DrawingAreaErrorKind<BitMapBackendError>> {
    // Without a font of the machine's, so that the picture is the same on every one.
    register_font("sans-serif", FontStyle::Normal, FONT)
        .unwrap_or_else(|_| unreachable!("the font is part of the program"));
    let most = sets.iter().flat_map(|set| &set.counts).copied().max().unwrap_or_default().max(1);
    let area = BitMapBackend::with_buffer(pixels, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(44)
        .build_cartesian_2d(*low..*high, 0..most)?;
    chart.configure_mesh().disable_x_mesh().x_desc("score").y_desc("answers").draw()?;
    let edge = |bin: usize| low + (high - low) * bin as f64 / BINS as f64;
    for (Counts { name, counts }, colour) in sets.iter().zip(COLOURS) {
        let style = colour.mix(0.5).filled();
        let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let bars = bars.map(|(bin, count)| Rectangle::new([(edge(bin), 0), (edge(bin + 1), *count)], style));
        let series = chart.draw_series(bars)?;
        series.label(*name).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], style));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels of a picture that have the colour of each set, or of both over each other.
    fn coloured(distribution: &Distribution) -> usize {
        let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
        draw(&mut pixels, "a < b", distribution).unwrap();
        pixels.as_chunks::<3>().0.iter().filter(|[red, _, blue]| red.abs_diff(*blue) > 40).count()
    }

    #[test]
    fn bars_are_as_tall_as_their_bins_are_full() {
        let distribution = Distribution::new([("better", vec![0.0, 0.0, 1.0]), ("worse", vec![0.5])]);
        let [better, worse] = &distribution.sets;
        assert_eq!((better.counts[0], better.counts[BINS - 1], worse.counts[BINS / 2]), (2, 1, 1));
        let names_alone = coloured(&Distribution::new([("better", vec![]), ("worse", vec![])]));
        // A bar of the full height and two of half of it; the axes lie over their edges.
        let bar = |counts: [Vec<f64>; 2]| {
            let [better, worse] = counts;
            (coloured(&Distribution::new([("better", better), ("worse", worse)])) - names_alone) as f64
        };
        let (half, whole) = (bar([vec![0.0, 0.0, 1.0], vec![]]), bar([vec![0.0, 1.0], vec![]]));
        assert!((half / whole - 0.75).abs() < 0.02, "{half} {whole}");
    }

    #[test]
    fn the_picture_is_a_png() {
        let file = histogram("title", &Distribution::new([("a", vec![1.0]), ("b", vec![])])).unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), SIZE);
    }

    #[test]
    fn scores_that_cannot_be_drawn_do_no_harm() {
        let far = f64::from(f32::MAX);
        let near = f64::from(1.0f32.next_up());
        for scores in
            [vec![], vec![f64::NAN], vec![2.0, 2.0], vec![f64::INFINITY, 1.0], vec![-far, far], vec![1.0, near]]
        {
            histogram("t", &Distribution::new([("a", scores), ("b", vec![])])).unwrap();
        }
    }
}
