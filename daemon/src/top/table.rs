//! Tables that the keys scroll and sort.

use std::cmp::Ordering;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Text;
use ratatui::widgets::{Block, Row, Table, TableState};

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub width: u16,
    /// Its cells have weights, and stand to the right.
    number: bool,
}

impl Column {
    #[must_use]
    pub const fn text(name: &'static str, width: u16) -> Column {
        Column {
            name,
            width,
            number: false,
        }
    }

    #[must_use]
    pub const fn number(name: &'static str, width: u16) -> Column {
        Column {
            name,
            width,
            number: true,
        }
    }
}

/// What is shown in a cell, and what its column is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    pub text: String,
    /// None: by the text.
    pub weight: Option<f64>,
}

impl Cell {
    /// Sorted by what it says.
    pub fn text(text: impl Into<String>) -> Cell {
        Cell {
            text: text.into(),
            weight: None,
        }
    }

    /// Sorted by a number; what is not known comes last.
    #[must_use]
    pub fn number(text: String, weight: Option<f64>) -> Cell {
        Cell {
            text,
            weight: Some(weight.unwrap_or(-1.0)),
        }
    }

    /// A number as it is.
    #[expect(clippy::cast_precision_loss, reason = "only to sort by it")]
    #[must_use]
    pub fn whole(number: u64) -> Cell {
        Cell::number(number.to_string(), Some(number as f64))
    }

    fn compare(&self, other: &Cell) -> Ordering {
        match (self.weight, other.weight) {
            (Some(own), Some(other)) => other.total_cmp(&own),
            _ => self.text.cmp(&other.text),
        }
    }
}

/// By which column a table is sorted, and which row is looked at. Numbers are sorted from the greatest,
/// texts from the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    pub column: usize,
    pub reversed: bool,
    pub row: usize,
}

impl Sorted {
    /// Up and down look at another row, left and right sort by another column, `r` the other way round.
    pub fn key(&mut self, key: KeyCode, columns: usize, rows: usize) {
        let last = rows.saturating_sub(1);
        match key {
            KeyCode::Up => self.row = self.row.min(last).saturating_sub(1),
            KeyCode::Down => self.row = (self.row + 1).min(last),
            KeyCode::PageUp => self.row = self.row.min(last).saturating_sub(10),
            KeyCode::PageDown => self.row = (self.row + 10).min(last),
            KeyCode::Home => self.row = 0,
            KeyCode::End => self.row = last,
            KeyCode::Left => self.column = self.column.checked_sub(1).unwrap_or(columns - 1),
            KeyCode::Right | KeyCode::Char('s') => self.column = (self.column + 1) % columns,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            _ => {}
        }
    }

    /// Sorts rows; equal ones stay in order.
    pub fn sort(&self, rows: &mut [Vec<Cell>]) {
        rows.sort_by(|one, other| {
            let ordering = one[self.column].compare(&other[self.column]);
            match self.reversed {
                true => ordering.reverse(),
                false => ordering,
            }
        });
    }

    /// Draws sorted rows, with the one that is looked at in sight.
    pub fn draw(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        title: &str,
        columns: &[Column],
        rows: &[Vec<Cell>],
    ) {
        let marked = |(number, column): (usize, &Column)| {
            let name = match (number == self.column, self.reversed) {
                (true, false) => format!("{}*", column.name),
                (true, true) => format!("{}^", column.name),
                (false, _) => column.name.to_owned(),
            };
            heading(name, column)
        };
        let head = Row::new(columns.iter().enumerate().map(marked));
        let mut state = TableState::default();
        state.select((!rows.is_empty()).then(|| self.row.min(rows.len() - 1)));
        let table = table(title, columns, rows)
            .header(head.style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_stateful_widget(table, area, &mut state);
    }
}

/// Draws rows as they are.
pub fn plain(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    columns: &[Column],
    rows: &[Vec<Cell>],
) {
    let head = columns
        .iter()
        .map(|column| heading(column.name.to_owned(), column));
    let head = Row::new(head).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(table(title, columns, rows).header(head), area);
}

fn heading(name: String, column: &Column) -> Text<'static> {
    match column.number {
        true => Text::from(name).right_aligned(),
        false => Text::from(name),
    }
}

fn table<'a>(title: &'a str, columns: &[Column], rows: &'a [Vec<Cell>]) -> Table<'a> {
    let cells = |row: &'a Vec<Cell>| {
        Row::new(row.iter().map(|cell| match cell.weight {
            Some(_) => Text::from(cell.text.as_str()).right_aligned(),
            None => Text::from(cell.text.as_str()),
        }))
    };
    let widths = columns
        .iter()
        .map(|column| Constraint::Length(column.width));
    Table::new(rows.iter().map(cells), widths)
        .column_spacing(2)
        .block(Block::bordered().title(title))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    const COLUMNS: [Column; 2] = [Column::text("LINE", 4), Column::number("UP", 6)];

    fn rows() -> Vec<Vec<Cell>> {
        [("b", Some(5.0)), ("a", None), ("c", Some(70.0))]
            .map(|(line, rate)| {
                let shown = rate.map_or("-".to_owned(), |rate| rate.to_string());
                vec![Cell::text(line), Cell::number(shown, rate)]
            })
            .to_vec()
    }

    #[test]
    fn keys_move_and_sort() {
        let mut sorted = Sorted::default();
        let lines = |sorted: &Sorted| {
            let mut rows = rows();
            sorted.sort(&mut rows);
            let first = rows.iter().map(|row| row[0].text.clone());
            first.collect::<String>()
        };
        assert_eq!(lines(&sorted), "abc");
        sorted.key(KeyCode::Char('r'), 2, 3);
        assert_eq!(lines(&sorted), "cba");
        sorted.key(KeyCode::Char('r'), 2, 3);
        sorted.key(KeyCode::Right, 2, 3);
        assert_eq!(
            lines(&sorted),
            "cba",
            "the greatest first, what is not known last"
        );
        sorted.key(KeyCode::Left, 2, 3);
        sorted.key(KeyCode::Left, 2, 3);
        assert_eq!(sorted.column, 1, "round the end");
        for (key, row) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 2),
            (KeyCode::Down, 2),
            (KeyCode::Up, 1),
            (KeyCode::End, 2),
            (KeyCode::Home, 0),
        ] {
            sorted.key(key, 2, 3);
            assert_eq!(sorted.row, row, "{key:?}");
        }
        // Rows have gone meanwhile.
        sorted.row = 17;
        sorted.key(KeyCode::Up, 2, 3);
        assert_eq!(sorted.row, 1);
        sorted.key(KeyCode::Down, 2, 0);
        assert_eq!(sorted.row, 0);
    }

    #[test]
    fn the_row_that_is_looked_at_is_in_sight() {
        let mut terminal = Terminal::new(TestBackend::new(16, 4)).expect("a terminal");
        let sorted = Sorted {
            column: 1,
            row: 2,
            reversed: false,
        };
        let mut rows = rows();
        sorted.sort(&mut rows);
        terminal
            .draw(|frame| sorted.draw(frame, frame.area(), "lines", &COLUMNS, &rows))
            .expect("drawn");
        let mut expected = ratatui::buffer::Buffer::with_lines([
            "┌lines─────────┐",
            "│LINE     UP*  │",
            "│a          -  │",
            "└──────────────┘",
        ]);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        expected.set_style(Rect::new(1, 1, 14, 1), bold);
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        expected.set_style(Rect::new(1, 2, 14, 1), reversed);
        terminal.backend().assert_buffer(&expected);
    }
}
