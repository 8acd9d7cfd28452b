//! The blocks of code in a page of Markdown, and what stands between them.

/// A block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The heading that it is below.
    pub heading: String,
    /// The text between the block before, or the page's beginning, and this one. Its
    /// lines are joined.
    pub before: String,
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

    /// What the text before it asks to be stopped, of `things`: they are named in a
    /// sentence that begins with "Stop" or "Now stop".
    pub fn stops<'t>(&self, things: &[&'t str]) -> Vec<&'t str> {
        let sentences = self.before.split(['.', ':', '?']);
        let asking = sentences.filter(|sentence| {
            let sentence = sentence.trim_start_matches(|c: char| !c.is_alphabetic());
            sentence.starts_with("Stop ") || sentence.starts_with("Now stop ")
        });
        let asked: String = asking.collect();
        let mut stopped = things.to_vec();
        stopped.retain(|thing| asked.contains(thing));
        stopped
    }
}

/// All blocks of a page.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut heading, mut before) = ("", Vec::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inner: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block {
                heading: heading.to_owned(),
                before: before.join(" "),
                language: language.to_owned(),
                text: inner.join("\n"),
            });
            before.clear();
            continue;
        }
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
        before.push(line);
    }
    blocks
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

/// Where the page's links lead that lead to this repository: a path beside the page,
/// empty for the page itself, and a heading in it, empty for all of it.
pub fn links(page: &str) -> Vec<(String, String)> {
    let links = page.split("](").skip(1);
    let links = links.filter_map(|rest| Some(rest.split_once(')')?.0));
    let inside = links.filter(|link| !link.contains("://"));
    inside
        .map(|link| link.split_once('#').unwrap_or((link, "")))
        .map(|(path, heading)| (path.to_owned(), heading.to_owned()))
        .collect()
}

/// The names of the page's headings in links, as GitHub makes them.
pub fn headings(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| heading.replace(' ', "-"))
        .map(|heading| {
            let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
            heading.chars().filter(is_kept).collect()
        })
        .collect()
}

#[apply(test)]
fn a_page_is_read_as_a_shell_and_its_reader_would() {
    let page = "# A\n`x` and `y z`\n```sh\n# no\none \\\n  more  # said\ncat <<'E'\n# in\nE\ntwo\n```\n\
                ## B\n**Do?** Stop the dog (by\na call). To stop the cat, wait:\n```\nno `span`\n```\n`w`\n```sh\nthree\n```\n";
    let blocks = blocks(page);
    let below: Vec<&str> = blocks.iter().map(|block| block.heading.as_str()).collect();
    assert_eq!(below, ["A", "B", "B"]);
    assert_eq!(
        blocks[0].commands(),
        ["one \\\n  more  # said", "cat <<'E'\n# in\nE", "two"]
    );
    assert_eq!(blocks[1].stops(&["the dog", "the cat"]), ["the dog"]);
    assert_eq!(blocks[2].commands(), ["three"]);
    assert_eq!(blocks[2].before, "`w`");
    assert_eq!(spans(page), ["x", "y z", "w"]);
    let page = "# A\n## It's B\n[x](#its-b) ![y](z/p.png) [w](https://w.example/) [v](v.md#u)";
    assert_eq!(headings(page), ["a", "its-b"]);
    let expected = [("", "its-b"), ("z/p.png", ""), ("v.md", "u")];
    assert_eq!(
        links(page),
        expected.map(|(path, to)| (path.to_owned(), to.to_owned()))
    );
}
