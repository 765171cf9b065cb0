//! Comma-separated values (RFC 4180, with `\n` at the end of lines).

/// A line of these fields.
pub(crate) fn line<T: AsRef<str>>(fields: impl IntoIterator<Item = T>) -> String {
    let mut line = String::new();
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        let field = field.as_ref();
        if field.contains([',', '"', '\n', '\r']) {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(field);
        }
    }
    line.push('\n');
    line
}

/// The lines of a text and their fields: the inverse of [`line`].
pub(crate) fn lines(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut fields, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if !quoted => quoted = true,
            '"' if letters.next_if_eq(&'"').is_none() => quoted = false,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                fields.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut fields));
            }
            _ => field.push(letter),
        }
    }
    if !field.is_empty() || !fields.is_empty() {
        fields.push(field);
        lines.push(fields);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{line, lines};

    #[test]
    fn what_was_written_is_read() {
        let rows = [vec!["a,b", "say \"b\"", "c\nd", ""], vec!["\"", "", "1.5", ","]];
        let text: String = rows.iter().map(line).collect();
        assert_eq!(lines(&text), rows);
        assert_eq!(lines("a,b"), [["a", "b"]]);
        assert!(lines("").is_empty());
    }

    #[test]
    fn fields_that_would_break_a_line_are_quoted() {
        assert_eq!(line(["a", "", "1.5"]), "a,,1.5\n");
        assert_eq!(line(["a,b", "say \"b\"", "c\nd"]), "\"a,b\",\"say \"\"b\"\"\",\"c\nd\"\n");
    }

    #[test]
    fn lines_read_back() {
        let written = [&["a,b", "say \"b\"", "\"", ""][..], &["c\nd", "1"], &[""]];
        let text: String = written.iter().map(|fields| line(*fields)).collect();
        assert_eq!(lines(&text), written);
        assert_eq!(lines("a,b\n1,2"), [["a", "b"], ["1", "2"]], "the last line may lack its end");
        assert!(lines("").is_empty());
    }
}
