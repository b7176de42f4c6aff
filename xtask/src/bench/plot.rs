//! The ratios as bars.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::bench::figures::{Line, Ratio, Who};

const WIDTH: u32 = 1040;
const ROW: u32 = 34;
const TOP: u32 = 64;
const BOTTOM: u32 = 48;
const LABELS: u32 = 470;
const FIGURES: u32 = 170;
/// Bars that reach further are cut off, with their figure beside them.
const LARGEST: f64 = 1.5;

const SLOTKEEPER: RGBColor = RGBColor(38, 97, 156);
const TWIN: RGBColor = RGBColor(190, 190, 190);
const REQUIRED: RGBColor = RGBColor(200, 40, 40);
const TEXT: RGBColor = RGBColor(40, 40, 40);

/// One bar per line: slotkeeper as a part of the baseline, the twin below it, a mark where the required figure is.
pub(crate) fn svg(lines: &[Line]) -> Result<String> {
    let mut text = String::new();
    draw(lines, &mut text).map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    Ok(text)
}

fn draw(lines: &[Line], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let lines: Vec<(&Line, Ratio)> = lines
        .iter()
        .filter_map(|line| Some((line, line.ratio_to(Who::Baseline)?)))
        .collect();
    let count = u32::try_from(lines.len())?;
    let root = SVGBackend::with_string(svg, (WIDTH, TOP + BOTTOM + count * ROW)).into_drawing_area();
    root.fill(&WHITE)?;
    let font = |size: i32| ("sans-serif", size).into_font().color(&TEXT);
    let at = |size, h, v| font(size).pos(Pos::new(h, v));
    root.draw_text(
        "slotkeeper against the baseline, per line (medians)",
        &at(18, HPos::Left, VPos::Top),
        (16, 12),
    )?;
    let mut legend = i32::try_from(LABELS)?;
    for (colour, name) in [
        (SLOTKEEPER, "slotkeeper"),
        (TWIN, "PL/pgSQL twin"),
        (REQUIRED, "required"),
    ] {
        root.draw(&Rectangle::new([(legend, 40), (legend + 12, 52)], colour.filled()))?;
        root.draw_text(name, &at(13, HPos::Left, VPos::Center), (legend + 18, 46))?;
        legend += 130;
    }
    let mut chart = ChartBuilder::on(&root)
        .margin_top(TOP)
        .margin_left(LABELS)
        .margin_right(FIGURES)
        .x_label_area_size(BOTTOM)
        // Upside down: the first line is on top.
        .build_cartesian_2d(0.0..LARGEST, f64::from(count)..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(7)
        .x_label_formatter(&|ratio| format!("{ratio:.2}"))
        .x_desc("1 = the baseline")
        .label_style(font(12))
        .draw()?;
    for (row, (line, ratio)) in lines.iter().enumerate() {
        let top = f64::from(u32::try_from(row)?);
        let twin = match (line.median(Who::Twin), line.median(Who::Baseline)) {
            (Some(twin), Some(baseline)) => Some(twin / baseline),
            _ => None,
        };
        let bar = |from: f64, to: f64, value: f64, colour: RGBColor| {
            Rectangle::new([(0.0, top + from), (value.min(LARGEST), top + to)], colour.filled())
        };
        chart.draw_series([bar(
            0.15,
            if twin.is_some() { 0.55 } else { 0.85 },
            ratio.median,
            SLOTKEEPER,
        )])?;
        chart.draw_series(twin.map(|value| bar(0.6, 0.85, value, TWIN)))?;
        chart.draw_series(line.required.map(|limit| {
            PathElement::new(
                [(limit.value(), top + 0.08), (limit.value(), top + 0.92)],
                REQUIRED.stroke_width(3),
            )
        }))?;
        let middle = i32::try_from(TOP + u32::try_from(row)? * ROW + ROW / 2)?;
        root.draw_text(
            &line.title,
            &at(13, HPos::Right, VPos::Center),
            (i32::try_from(LABELS)? - 8, middle),
        )?;
        let required = line
            .required
            .map_or_else(String::new, |limit| format!("  ({})", limit.show()));
        let figure = format!("{:.2}{required}", ratio.median);
        root.draw_text(
            &figure,
            &at(13, HPos::Left, VPos::Center),
            (i32::try_from(WIDTH - FIGURES)? + 8, middle),
        )?;
    }
    root.present()?;
    Ok(())
}
