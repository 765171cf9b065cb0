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

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn fields_that_would_break_a_line_are_quoted() {
        assert_eq!(line(["a", "", "1.5"]), "a,,1.5\n");
        assert_eq!(line(["a,b", "say \"b\"", "c\nd"]), "\"a,b\",\"say \"\"b\"\"\",\"c\nd\"\n");
    }
}
