//! A chart of one panel over the steps of several runs.

use leptos::prelude::*;
use web_sys::PointerEvent;

use crate::runs::chart::{Axis, STROKES, number, path};
use crate::runs::opened::OpenedRun;
use crate::runs::panels::{Panel, number_of};

/// In the drawing's own units; it is scaled to fit.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 150.0;
/// Room for the labels of the axes.
const LEFT: f64 = 68.0;
const RIGHT: f64 = 44.0;
const BOTTOM: f64 = 24.0;

/// Dashes of a panel's series where it shows several of them.
const DASHES: [&str; 3] = ["none", "7 4", "2 3"];

/// A line of a chart.
#[derive(Clone, PartialEq)]
struct Line {
    /// The series' place in its panel.
    series: usize,
    run: usize,
    points: Vec<(f64, f64)>,
}

/// What is drawn.
#[derive(Clone, PartialEq)]
struct Drawing {
    lines: Vec<Line>,
    /// The places of the series in the panel.
    series: Vec<usize>,
    x: Axis,
    y: Axis,
    /// The axis of the panel's last series, if it has one of its own.
    right: Option<Axis>,
}

impl Drawing {
    /// `None` when no run has anything of the panel.
    fn of(panel: &'static Panel, runs: &[OpenedRun]) -> Option<Self> {
        let numbers: Vec<usize> = panel.series.iter().filter_map(|series| number_of(series.field)).collect();
        let of_run = |run: &OpenedRun| {
            run.metrics.with(|metrics| {
                let lines = numbers.iter().enumerate().map(|(series, number)| Line {
                    series,
                    run: run.id,
                    points: metrics.points(*number).to_vec(),
                });
                lines.filter(|line| !line.points.is_empty()).collect::<Vec<_>>()
            })
        };
        let lines: Vec<Line> = runs.iter().flat_map(of_run).collect();
        let series: Vec<usize> =
            (0..numbers.len()).filter(|series| lines.iter().any(|line| line.series == *series)).collect();
        let axis = |of: &dyn Fn(&Line) -> bool| {
            let points = lines.iter().filter(|line| of(line)).flat_map(|line| &line.points);
            Axis::fit(points.map(|point| point.1), HEIGHT)
        };
        let is_right = |line: &Line| panel.right && line.series + 1 == panel.series.len();
        let right = axis(&is_right);
        let y = axis(&|line| !is_right(line)).or(right)?;
        // All charts share the same range of steps, so that one cursor serves them all.
        let last = runs.iter().filter_map(|run| run.metrics.with(|metrics| metrics.last_step())).max()?;
        let x = Axis::fit([0.0, last as f64].into_iter(), WIDTH - LEFT - if panel.right { RIGHT } else { 0.0 })?;
        Some(Self { lines, series, x, y, right })
    }

    /// Dashes tell series apart where there are several, and runs where there is one. So do colours while there is one run.
    fn stroke(&self, line: &Line, runs: usize) -> (&'static str, &'static str) {
        let run = &STROKES[line.run % STROKES.len()];
        match self.series.len() {
            0 | 1 => (run.colour, run.dashes),
            _ => (if runs == 1 { STROKES[line.series % 3].colour } else { run.colour }, DASHES[line.series % 3]),
        }
    }
}

/// Lines, axes and the current step, which follows the pointer or the arrow keys. Empty when no run has this panel.
#[component]
pub fn Chart(runs: RwSignal<Vec<OpenedRun>>, panel: &'static Panel, cursor: RwSignal<Option<u64>>) -> impl IntoView {
    let title = panel.title;
    let drawing = Memo::new(move |_| Drawing::of(panel, &runs.get()));
    let steps = move || drawing.with_untracked(|drawing| drawing.as_ref().map(|drawing| drawing.x));
    let move_to = move |event: PointerEvent| {
        let Some(x) = steps() else { return };
        let drawing: web_sys::Element = event_target(&event);
        let svg = drawing.closest("svg").ok().flatten().unwrap_or(drawing);
        let bounds = svg.get_bounding_client_rect();
        let place = (f64::from(event.client_x()) - bounds.left()) / bounds.width() * (WIDTH + 8.0) - LEFT;
        cursor.set(Some(x.value(place).round().max(0.0) as u64));
    };
    let step_by = move |event: leptos::ev::KeyboardEvent| {
        let Some(x) = steps() else { return };
        let last = x.value(f64::INFINITY);
        let now = cursor.get_untracked().map_or(last, |step| step as f64);
        let stride = (last / 50.0).max(1.0).round();
        let next = match event.key().as_str() {
            "ArrowLeft" => now - stride,
            "ArrowRight" => now + stride,
            "Home" => 0.0,
            "End" => last,
            _ => return,
        };
        event.prevent_default();
        cursor.set(Some(next.clamp(0.0, last) as u64));
    };
    move || {
        drawing.get().map(|drawing| {
            let runs = runs.with(Vec::len);
            view! {
                <figure class="chart" data-testid=format!("chart-{}", panel.series[0].field.replace('/', "-"))>
                    <figcaption>{title} {legend(panel, &drawing, runs)}</figcaption>
                    <svg
                        viewBox=format!("0 -8 {} {}", WIDTH + 8.0, HEIGHT + BOTTOM + 8.0)
                        tabindex="0"
                        role="img"
                        aria-label=format!("{title} over steps; the arrow keys move the step whose values the table tells")
                        on:pointermove=move_to
                        on:pointerleave=move |_| cursor.set(None)
                        on:keydown=step_by
                    >
                        {lines(&drawing, runs, cursor, panel)}
                    </svg>
                </figure>
            }
        })
    }
}

/// Names the lines, if there are several series.
fn legend(panel: &'static Panel, drawing: &Drawing, runs: usize) -> impl IntoView + use<> {
    let several = drawing.series.len() > 1;
    let names = drawing.series.iter().filter(|_| several).map(|&series| {
        let line = drawing.lines.iter().find(|line| line.series == series);
        let (colour, dashes) = line.map_or(("none", "none"), |line| drawing.stroke(line, runs));
        let colour = if runs == 1 { colour } else { "currentcolor" };
        view! { <span class="hint">{swatch(colour, dashes)}{panel.series[series].name}</span> }
    });
    names.collect_view()
}

/// A piece of a line.
pub fn swatch(colour: &'static str, dashes: &'static str) -> impl IntoView {
    view! {
        <svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">
            <line class="line" x1="0" x2="28" y1="4" y2="4" stroke=colour stroke-dasharray=dashes />
        </svg>
    }
}

fn lines(
    drawing: &Drawing,
    runs: usize,
    cursor: RwSignal<Option<u64>>,
    panel: &'static Panel,
) -> impl IntoView + use<> {
    let Drawing { lines, x, y, right, .. } = drawing;
    let x = *x;
    let end = LEFT + x.place(x.value(f64::INFINITY));
    let labels = y.ticks(4).into_iter().map(|value| {
        let place = HEIGHT - y.place(value);
        view! {
            <line class="grid" x1=LEFT x2=end y1=place y2=place />
            {label(LEFT - 8.0, place + 5.0, "end", number(value))}
        }
    });
    let on_right = right
        .iter()
        .flat_map(|right| right.ticks(4).into_iter().map(move |value| (HEIGHT - right.place(value), value)));
    let on_right = on_right.map(|(place, value)| label(end + 6.0, place + 5.0, "start", number(value)));
    let steps =
        x.ticks(4).into_iter().map(|value| label(LEFT + x.place(value), HEIGHT + 20.0, "middle", number(value)));
    let paths = lines.iter().map(|line| {
        let own = right.as_ref().filter(|_| panel.right && line.series + 1 == panel.series.len());
        let (colour, dashes) = drawing.stroke(line, runs);
        view! { <path class="line" d=path(&line.points, &x, own.unwrap_or(y), HEIGHT) stroke=colour stroke-dasharray=dashes /> }
    });
    view! {
        {labels.collect_view()}
        {on_right.collect_view()}
        {label(LEFT - 16.0, HEIGHT + 20.0, "end", "step".to_string())}
        {steps.collect_view()}
        <g transform=format!("translate({LEFT} 0)")>
            {paths.collect_view()}
            {move || cursor.get().map(|step| {
                let place = x.place(x.value(x.place(step as f64)));
                view! { <line class="cursor" x1=place x2=place y1="0" y2=HEIGHT /> }
            })}
        </g>
    }
}

/// Text on an axis.
pub fn label(x: f64, y: f64, anchor: &'static str, text: String) -> impl IntoView {
    view! { <text class="label" x=x y=y text-anchor=anchor>{text}</text> }
}
