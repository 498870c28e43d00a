//! Columns for people.

/// Rows as left-aligned columns, two spaces apart, as kubectl prints them.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head = header.iter().map(|h| h.to_string()).collect();
    std::iter::once(&head).chain(rows).map(|row| line(row, &widths)).collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("{}\n", cells.join("   ").trim_end())
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["node-1".into(), "ready".into()], vec!["a".into(), "not ready".into()]];
        assert_eq!(
            super::render(&["NAME", "STATE"], &rows),
            "NAME     STATE\nnode-1   ready\na        not ready\n"
        );
    }
}
