//! Lines over a common axis, one for each series.

use super::axis::{Axis, label};
use super::svg::{Anchor, Svg};
use super::{COLOURS, Caption, WIDTH};

#[derive(Clone, Debug)]
pub(crate) struct Curves {
    pub(crate) caption: Caption,
    /// With their units.
    pub(crate) x_axis: String,
    pub(crate) y_axis: String,
    pub(crate) logarithmic: bool,
    /// A name, and its points by ascending x.
    pub(crate) series: Vec<(String, Vec<[f64; 2]>)>,
}

const LEFT: f64 = 86.0;
const RIGHT: f64 = WIDTH - 214.0;
const HEIGHT: f64 = 260.0;
const DASHES: [&str; 4] = ["", "7 3", "2 3", "9 3 2 3"];

impl Curves {
    pub(crate) fn svg(&self) -> String {
        let (mut svg, top) = Svg::new(&self.caption, HEIGHT + 66.0);
        let (top, bottom) = (top + 8.0, top + 8.0 + HEIGHT);
        let all = || self.series.iter().flat_map(|series| &series.1);
        let across = Axis::linear(all().map(|point| point[0]), LEFT, RIGHT);
        let up = all().map(|point| point[1]);
        let up =
            if self.logarithmic { Axis::logarithmic(up, bottom, top) } else { Axis::linear(up, bottom, top) };
        for tick in across.ticks() {
            let x = across.place(tick);
            svg.grid_line([x, top], [x, bottom]);
            svg.text([x, bottom + 17.0], Anchor::Middle, &label(tick), "");
        }
        for tick in up.ticks() {
            let y = up.place(tick);
            svg.grid_line([LEFT, y], [RIGHT, y]);
            svg.text([LEFT - 8.0, y + 4.0], Anchor::End, &label(tick), "");
        }
        svg.text([f64::midpoint(LEFT, RIGHT), bottom + 37.0], Anchor::Middle, &self.x_axis, "");
        svg.upright([22.0, f64::midpoint(top, bottom)], &self.y_axis);
        for (((name, points), at), dashes) in self.series.iter().zip(0_u8..).zip(DASHES.iter().cycle()) {
            let colour = COLOURS[usize::from(at) % COLOURS.len()];
            let places: Vec<[f64; 2]> =
                points.iter().map(|[x, y]| [across.place(*x), up.place(*y)]).collect();
            svg.path(&places, colour, dashes);
            if places.len() <= 12 {
                for place in &places {
                    svg.dot(*place, colour, true);
                }
            }
            let y = top + 12.0 + 22.0 * f64::from(at);
            svg.path(&[[RIGHT + 16.0, y - 4.0], [RIGHT + 46.0, y - 4.0]], colour, dashes);
            svg.text([RIGHT + 54.0, y], Anchor::Start, name, "");
        }
        svg.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each series is a line with its name, and larger values lie higher.
    #[test]
    fn chart() {
        let chart = Curves {
            caption: Caption { title: "gap".to_owned(), lines: Vec::new() },
            x_axis: "minutes".to_owned(),
            y_axis: "tokens".to_owned(),
            logarithmic: false,
            series: vec![
                ("fcfs".to_owned(), vec![[0.0, 0.0], [10.0, 100.0]]),
                ("fair".to_owned(), vec![[0.0, 0.0], [10.0, 5.0]]),
            ],
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<polyline").count(), 4);
        let top = 34.0 + 8.0;
        assert!(svg.contains(&format!("cy=\"{top:.1}\"")), "100 is at the top");
        for text in [">fcfs<", ">fair<", ">minutes<", ">tokens<"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
