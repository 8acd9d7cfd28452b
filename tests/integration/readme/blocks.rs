//! The blocks of code in a page of Markdown.

/// A heading, and the blocks below it up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub heading: String,
    pub blocks: Vec<Block>,
}

/// A block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub language: String,
    pub text: String,
}

impl Block {
    /// Its commands, as a shell would read them one by one.
    pub fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut command = line.to_owned();
            while command.ends_with('\\') {
                command.push('\n');
                command.push_str(lines.next().expect("a line goes on"));
            }
            if let Some((_, end)) = line.split_once("<<") {
                let end = end.trim_matches('\'');
                for line in lines.by_ref() {
                    command.push('\n');
                    command.push_str(line);
                    if line == end {
                        break;
                    }
                }
            }
            commands.push(command);
        }
        commands
    }
}

/// All sections of a page that have blocks.
pub fn sections(page: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut heading = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inner: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if sections.last().is_none_or(|last| last.heading != heading) {
                sections.push(Section {
                    heading: heading.to_owned(),
                    blocks: Vec::new(),
                });
            }
            let block = Block {
                language: language.to_owned(),
                text: inner.join("\n"),
            };
            sections.last_mut().unwrap().blocks.push(block);
        } else if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
    }
    sections
}

/// What stands between single backquotes outside of blocks.
pub fn spans(page: &str) -> Vec<String> {
    let mut outside = true;
    let lines = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        outside ^= fence;
        outside && !fence
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

#[apply(test)]
fn a_page_is_read_as_a_shell_and_its_reader_would() {
    let page = "# A\n`x` and `y z`\n```sh\n# no\none \\\n  more  # said\ncat <<'E'\n# in\nE\ntwo\n```\n\
                ## B\n```\nno `span`\n```\n`w`\n```sh\nthree\n```\n";
    let sections = sections(page);
    let headings: Vec<&str> = sections.iter().map(|s| s.heading.as_str()).collect();
    assert_eq!(headings, ["A", "B"]);
    assert_eq!(
        sections[0].blocks[0].commands(),
        ["one \\\n  more  # said", "cat <<'E'\n# in\nE", "two"]
    );
    assert_eq!(sections[1].blocks.len(), 2);
    assert_eq!(sections[1].blocks[1].commands(), ["three"]);
    assert_eq!(spans(page), ["x", "y z", "w"]);
}
