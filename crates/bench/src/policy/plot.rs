//! Curves as one SVG picture.

use std::fmt::Write;

use super::growth::Curve;

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 210.0;
const COLUMNS: usize = 2;
/// Around the field of each curve: left, top, right, bottom.
const MARGIN: [f64; 4] = [56.0, 36.0, 16.0, 40.0];

/// The picture, two curves a line.
pub fn svg(curves: &[Curve]) -> String {
    let (columns, rows) = (COLUMNS as f64, curves.len().div_ceil(COLUMNS) as f64);
    let (width, height) = (columns * WIDTH, rows * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, curve) in curves.iter().enumerate() {
        let (column, row) = ((number % COLUMNS) as f64, (number / COLUMNS) as f64);
        let _ = writeln!(out, "<g transform=\"translate({} {})\">\n{}</g>", column * WIDTH, row * HEIGHT, panel(curve));
    }
    out + "</svg>\n"
}

/// One curve, both axes from 0.
fn panel(curve: &Curve) -> String {
    let [left, top, right, bottom] = MARGIN;
    let (across, up) = (WIDTH - left - right, HEIGHT - top - bottom);
    let most = |of: fn(&(f64, f64)) -> f64| curve.points.iter().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let (most_x, most_y) = (most(|it| it.0), most(|it| it.1) * 1.1);
    let at = |(x, y): (f64, f64)| (left + x / most_x * across, top + up - y / most_y * up);
    let base = top + up;
    let mut out = format!(
        "<text x=\"{left}\" y=\"20\" font-weight=\"bold\">{}, ms</text>\n<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
         <path d=\"M{left} {top}V{base}H{}\" fill=\"none\" stroke=\"#888\"/>\n",
        curve.title,
        left + across / 2.0,
        HEIGHT - 6.0,
        curve.along,
        left + across,
    );
    let points: Vec<(f64, f64)> = curve.points.iter().map(|point| at(*point)).collect();
    let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"#1667b7\" stroke-width=\"2\"/>", line.join(" "));
    for ((x, y), (amount, cost)) in points.iter().zip(&curve.points) {
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#1667b7\"/>");
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", y - 7.0, short(*cost));
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{}</text>", base + 14.0, short(*amount));
    }
    out
}

fn short(value: f64) -> String {
    match value {
        it if it >= 10_000.0 => format!("{:.0}k", it / 1e3),
        it if it >= 10.0 || it.fract() == 0.0 => format!("{it:.0}"),
        it => format!("{it:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_in_its_panel() {
        let curve = Curve { title: "cost", along: "pods", points: vec![(100.0, 1.0), (200.0, 4.5), (40_000.0, 20.0)] };
        let picture = svg(&[curve]);
        assert_eq!(picture.matches("<circle").count(), 3);
        assert!(picture.contains("40k") && picture.contains("4.5"), "{picture}");
        let xs = picture.split("cx=\"").skip(1).filter_map(|it| it.split('"').next()?.parse::<f64>().ok());
        assert!(xs.into_iter().all(|x| (MARGIN[0]..=WIDTH).contains(&x)));
    }
}
