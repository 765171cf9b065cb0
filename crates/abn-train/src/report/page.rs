//! One self-contained HTML page: style, curves and pictures are inside the file.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::svg::escape;

/// An HTML document in the making.
pub struct Page {
    body: String,
    title: String,
}

/// Colour of a table's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shade {
    /// Green.
    Right,
    /// Orange.
    Wrong,
}

/// A picture with the answer it got.
pub struct Picture {
    /// PNG bytes.
    pub png: Vec<u8>,
    /// What the picture shows, for the alternative text.
    pub alt: String,
    /// Line below it.
    pub caption: String,
    /// Whether the answer was right.
    pub right: bool,
}

impl Page {
    /// A page with a heading.
    pub fn new(title: &str) -> Self {
        Self { body: format!("<h1>{}</h1>\n", escape(title)), title: title.to_owned() }
    }

    /// A highlighted paragraph, for what a reader must know before the numbers.
    pub fn notice(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"notice\">{}</p>", escape(text));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// A section heading.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// A heading within a section.
    pub fn subheading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h3>{}</h3>", escape(text));
    }

    /// A table; every column but the first is right-aligned.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.shaded(head, rows, |_, _| None);
    }

    /// A [`table`](Self::table) whose cells (row, column) may have a shade, from 0 to 1 of a colour.
    pub fn shaded(
        &mut self,
        head: &[&str],
        rows: &[Vec<String>],
        shade: impl Fn(usize, usize) -> Option<(Shade, f64)>,
    ) {
        self.body.push_str("<div class=\"scroll\"><table><thead><tr>");
        for cell in head {
            let _ = write!(self.body, "<th>{}</th>", escape(cell));
        }
        self.body.push_str("</tr></thead><tbody>\n");
        for (row, cells) in rows.iter().enumerate() {
            self.body.push_str("<tr>");
            for (column, cell) in cells.iter().enumerate() {
                let style = shade(row, column).map_or(String::new(), |(shade, share)| {
                    let colour = match shade {
                        Shade::Right => "47 158 68",
                        Shade::Wrong => "232 89 12",
                    };
                    format!(" style=\"background:rgb({colour} / {:.2})\"", share.clamp(0.0, 1.0))
                });
                let _ = write!(self.body, "<td{style}>{}</td>", escape(cell));
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// A part that is closed until its title is clicked.
    pub fn fold(&mut self, title: &str, part: impl FnOnce(&mut Self)) {
        let _ = write!(self.body, "<details><summary>{}</summary>", escape(title));
        part(self);
        self.body.push_str("</details>\n");
    }

    /// Charts side by side where there is room, each a title and ready-made SVG.
    pub fn charts(&mut self, charts: &[(String, String)]) {
        self.body.push_str("<div class=\"charts\">");
        for (title, svg) in charts {
            let _ = writeln!(
                self.body,
                "<figure><figcaption>{}</figcaption>{svg}</figure>",
                escape(title)
            );
        }
        self.body.push_str("</div>\n");
    }

    /// A row of pictures that wraps.
    pub fn gallery(&mut self, pictures: &[Picture]) {
        self.pictures("gallery", "", pictures);
    }

    /// As [`gallery`](Self::gallery), for pictures that are several of one size side by side: what each of
    /// these is stands above it.
    pub fn panels(&mut self, heads: &[&str], pictures: &[Picture]) {
        let heads = heads.iter().fold(String::new(), |mut out, head| {
            let _ = write!(out, "<span>{}</span>", escape(head));
            out
        });
        self.pictures("gallery panels", &format!("<div class=\"heads\">{heads}</div>"), pictures);
    }

    fn pictures(&mut self, class: &str, above: &str, pictures: &[Picture]) {
        let _ = write!(self.body, "<div class=\"{class}\">");
        for picture in pictures {
            let _ = writeln!(
                self.body,
                "<figure class=\"{}\">{above}<img alt=\"{}\" src=\"data:image/png;base64,{}\"><figcaption>{}</figcaption></figure>",
                if picture.right { "right" } else { "wrong" },
                escape(&picture.alt),
                BASE64_STANDARD.encode(&picture.png),
                escape(&picture.caption)
            );
        }
        self.body.push_str("</div>\n");
    }

    /// The whole document.
    pub fn finish(self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{}</title><style>{STYLE}</style></head>\n<body><main>\n{}</main></body></html>\n",
            escape(&self.title),
            self.body
        )
    }
}

const STYLE: &str = "
:root { --ink: #1c2330; --dim: #667085; --paper: #fff; --rule: #e3e7ee; --a: #7a869a; --b: #d9480f; --c: #1c7ed6; --d: #2f9e44; --soft: #fff4e6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7ebf3; --dim: #98a2b3; --paper: #14181f; --rule: #2b323d; --a: #8fa0ba; --b: #ff922b; --c: #4dabf7; --d: #69db7c; --soft: #2b2117; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 2.4rem; font-size: 1.2rem; }
.notice { background: var(--soft); border-left: 4px solid var(--b); padding: 10px 14px; border-radius: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 8px; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { font-size: .85rem; color: var(--dim); } th:first-child, td:first-child { text-align: left; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 20px; }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--dim); }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--rule); } .tick, .label { font-size: 10px; fill: var(--dim); }
.line { fill: none; stroke-width: 2; }
polyline.line-0, circle.line-0 { stroke: var(--a); } polyline.line-1, circle.line-1 { stroke: var(--b); }
polyline.line-2, circle.line-2 { stroke: var(--c); } polyline.line-3, circle.line-3 { stroke: var(--d); }
circle.dot { fill: var(--paper); stroke-width: 1.5; }
.legend { margin: 2px 0 0; font-size: .8rem; color: var(--dim); }
.entry { white-space: nowrap; margin-right: 12px; }
.key { display: inline-block; width: 18px; margin: 0 5px 3px 0; border-top: 2px solid; vertical-align: middle; }
.key.line-0 { border-color: var(--a); } .key.line-1 { border-color: var(--b); }
.key.line-2 { border-color: var(--c); } .key.line-3 { border-color: var(--d); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.gallery img { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; }
.panels { grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr)); }
.panels img { image-rendering: auto; }
.heads { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); align-items: end; gap: 4px; }
.heads span { font-size: .7rem; line-height: 1.2; text-align: center; color: var(--dim); padding-bottom: 3px; }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
.gallery .wrong figcaption { color: var(--b); }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_self_contained_and_escaped() {
        let mut page = Page::new("A & B");
        page.notice("<quick>");
        page.table(&["x", "y"], &[vec!["1".into(), "<2>".into()]]);
        page.gallery(&[Picture {
            png: vec![1, 2, 3],
            alt: "\"".into(),
            caption: "shirt".into(),
            right: false,
        }]);
        let picture =
            || Picture { png: vec![1], alt: "a".into(), caption: "b".into(), right: true };
        page.panels(&["image", "<CAM>"], &[picture(), picture()]);
        page.shaded(&["x"], &[vec!["5".into()]], |row, column| {
            Some((Shade::Wrong, (row + column) as f64 + 0.25))
        });
        page.fold("more & more", |page| page.text("inside"));
        let html = page.finish();
        let heads = "<div class=\"heads\"><span>image</span><span>&lt;CAM&gt;</span></div><img";
        assert_eq!(html.matches(heads).count(), 2);
        assert!(html.contains("<td style=\"background:rgb(232 89 12 / 0.25)\">5</td>"));
        let fold = "<details><summary>more &amp; more</summary><p>inside</p>\n</details>";
        assert!(html.contains(fold), "{html}");
        assert!(
            html.contains("A &amp; B")
                && html.contains("&lt;quick&gt;")
                && html.contains("&lt;2&gt;")
        );
        assert!(html.contains("data:image/png;base64,AQID") && html.contains("alt=\"&quot;\""));
        assert!(
            !html.contains("http://") && !html.contains("https://") && !html.contains("<script")
        );
    }
}
