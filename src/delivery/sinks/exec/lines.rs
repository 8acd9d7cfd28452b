//! Turns what a program prints into log lines, of bounded length and number.

/// The longest line that is kept whole, in bytes.
const LINE: usize = 1000;

/// The most lines of one run.
const LINES: usize = 50;

/// Cuts a stream of bytes into lines.
#[derive(Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    given: usize,
    left_out: usize,
}

impl Lines {
    /// Takes the next bytes and gives the lines that they completed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                whole.extend(self.end());
            } else if self.line.len() < LINE {
                self.line.push(byte);
            }
        }
        whole
    }

    /// Gives the last line, which may lack its end, and says what was left out.
    pub(super) fn finish(mut self) -> Vec<String> {
        let mut last: Vec<String> = self.end().into_iter().collect();
        if self.left_out > 0 {
            last.push(format!("({} more lines)", self.left_out));
        }
        last
    }

    fn end(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return None;
        }
        if self.given == LINES {
            self.left_out += 1;
            return None;
        }
        self.given += 1;
        // Control characters could forge lines of the log or colour a terminal.
        let text = String::from_utf8_lossy(&line)
            .trim_end()
            .replace(char::is_control, " ");
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut lines = Lines::default();
        assert!(lines.take(b"one ").is_empty());
        assert_eq!(
            lines.take(b"line\r\n\nnext\x1b[31m\nrest"),
            ["one line", "next [31m"]
        );
        assert_eq!(lines.finish(), ["rest"]);
    }

    #[test]
    fn neither_long_lines_nor_many_fill_the_log() {
        let mut lines = Lines::default();
        let long = lines.take(&[b'x'; 100_000]);
        assert!(long.is_empty());
        let whole = lines.take(&b"\nagain".repeat(1000));
        assert_eq!(whole.len(), LINES);
        assert_eq!(whole[0].len(), LINE);
        assert_eq!(lines.finish(), [format!("({} more lines)", 1001 - LINES)]);
    }
}
