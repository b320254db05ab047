//! A chart of one quantity over the steps of several runs.

use leptos::prelude::*;
use web_sys::PointerEvent;

use crate::runs::chart::{Axis, number, path};
use crate::runs::metrics::QUANTITIES;
use crate::runs::opened::{OpenedRun, STROKES};

/// In the drawing's own units; it is scaled to fit.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 200.0;
/// Room for the labels of the axes.
const LEFT: f64 = 80.0;
const BOTTOM: f64 = 24.0;

/// Lines, axes and the current step, which follows the pointer or the arrow keys. Empty when no run has this quantity.
#[component]
pub fn Chart(runs: RwSignal<Vec<OpenedRun>>, quantity: usize, cursor: RwSignal<Option<u64>>) -> impl IntoView {
    let title = QUANTITIES[quantity].title;
    let lines = Memo::new(move |_| {
        runs.get().iter().map(|run| (run.id, run.metrics.with(|metrics| metrics.points(quantity)))).collect::<Vec<_>>()
    });
    let scales = Memo::new(move |_| {
        lines.with(|lines| {
            let points = || lines.iter().flat_map(|(_, points)| points);
            // All charts share the same range of steps, so that one cursor serves them all.
            let last = runs.get().iter().filter_map(|run| run.metrics.with(|metrics| metrics.last_step())).max()?;
            let x = Axis::fit([0.0, last as f64].into_iter(), WIDTH - LEFT)?;
            Some((x, Axis::fit(points().map(|point| point.1), HEIGHT)?))
        })
    });
    let move_to = move |event: PointerEvent| {
        let Some((x, _)) = scales.get_untracked() else { return };
        let drawing: web_sys::Element = event_target(&event);
        let svg = drawing.closest("svg").ok().flatten().unwrap_or(drawing);
        let bounds = svg.get_bounding_client_rect();
        let place = (f64::from(event.client_x()) - bounds.left()) / bounds.width() * WIDTH - LEFT;
        cursor.set(Some(x.value(place).round().max(0.0) as u64));
    };
    let step_by = move |event: leptos::ev::KeyboardEvent| {
        let Some((x, _)) = scales.get_untracked() else { return };
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
    let drawing = move |(x, y): (Axis, Axis)| {
        let labels = y.ticks(4).into_iter().map(|value| {
            let place = HEIGHT - y.place(value);
            view! {
                <line class="grid" x1=LEFT x2=WIDTH y1=place y2=place />
                <text class="label" x=LEFT - 8.0 y=place text-anchor="end" dominant-baseline="middle">{number(value)}</text>
            }
        });
        let steps = x.ticks(6).into_iter().map(|value| {
            let place = LEFT + x.place(value);
            view! { <text class="label" x=place y=HEIGHT + 18.0 text-anchor="middle">{number(value)}</text> }
        });
        let paths = lines.get().into_iter().map(|(id, points)| {
            let stroke = &STROKES[id % STROKES.len()];
            view! { <path class="line" d=path(&points, &x, &y, HEIGHT) stroke=stroke.colour stroke-dasharray=stroke.dashes /> }
        });
        view! {
            {labels.collect_view()}
            {steps.collect_view()}
            <g transform=format!("translate({LEFT} 0)")>
                {paths.collect_view()}
                {move || cursor.get().map(|step| {
                    let place = x.place(x.value(x.place(step as f64)));
                    view! { <line class="cursor" x1=place x2=place y1="0" y2=HEIGHT /> }
                })}
            </g>
        }
    };
    move || {
        scales.get().map(|scales| view! {
            <figure class="chart" data-testid=format!("chart-{}", QUANTITIES[quantity].field)>
                <figcaption>{title}</figcaption>
                <svg
                    viewBox=format!("0 -8 {} {}", WIDTH + 8.0, HEIGHT + BOTTOM + 8.0)
                    tabindex="0"
                    role="img"
                    aria-label=format!("{title} over steps; the arrow keys move the step whose values the table tells")
                    on:pointermove=move_to
                    on:pointerleave=move |_| cursor.set(None)
                    on:keydown=step_by
                >
                    {drawing(scales)}
                </svg>
            </figure>
        })
    }
}
