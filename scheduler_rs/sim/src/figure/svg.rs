//! An SVG document, element by element.

use super::{Caption, WIDTH};
use std::fmt::Write;

const INK: &str = "#222222";
const FAINT: &str = "#dddddd";

/// Where a text hangs on its point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

pub(super) struct Svg {
    body: String,
    height: f64,
}

impl Svg {
    /// An empty card with its caption, and where the room below that begins.
    pub(super) fn new(caption: &Caption, height: f64) -> (Self, f64) {
        let below = 34.0 + 16.0 * caption.lines.len() as f64;
        let mut svg = Self { body: String::new(), height: height + below };
        svg.element(&format!(
            r##"<rect width="{WIDTH}" height="{}" rx="6" fill="#ffffff" stroke="{FAINT}"/>"##,
            svg.height
        ));
        svg.text([16.0, 25.0], Anchor::Start, &caption.title, r#"font-size="15" font-weight="bold""#);
        for (line, at) in caption.lines.iter().zip(0_u8..) {
            svg.text([16.0, 44.0 + 16.0 * f64::from(at)], Anchor::Start, line, r##"fill="#555555""##);
        }
        (svg, below)
    }

    fn element(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    pub(super) fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, text: &str, style: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let anchor = anchor.name();
        self.element(&format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" {style}>{text}</text>"#));
    }

    /// A text that reads upwards.
    pub(super) fn upright(&mut self, [x, y]: [f64; 2], text: &str) {
        let style = format!(r#"transform="rotate(-90 {x:.1} {y:.1})""#);
        self.text([x, y], Anchor::Middle, text, &style);
    }

    pub(super) fn grid_line(&mut self, from: [f64; 2], to: [f64; 2]) {
        self.line(from, to, FAINT, 1.0);
    }

    pub(super) fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], colour: &str, width: f64) {
        self.element(&format!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
        ));
    }

    /// A line through points, dashed so that lines are told apart without their colours too.
    pub(super) fn path(&mut self, points: &[[f64; 2]], colour: &str, dashes: &str) {
        let mut through = String::new();
        for [x, y] in points {
            write!(through, "{x:.1},{y:.1} ").expect("a string takes everything");
        }
        let through = through.trim_end();
        self.element(&format!(
            r#"<polyline points="{through}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>"#
        ));
    }

    pub(super) fn dot(&mut self, [x, y]: [f64; 2], colour: &str, filled: bool) {
        let fill = if filled { colour } else { "#ffffff" };
        self.element(&format!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{fill}" stroke="{colour}" stroke-width="2"/>"#
        ));
    }

    pub(super) fn finish(self) -> String {
        let height = self.height;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"12\" fill=\"{INK}\">\n{}</svg>\n",
            self.body
        )
    }
}
