//! What manifests may say; and that those in the repository say it.

use crate::fetch::Manifest;

#[test]
fn every_manifest_in_the_repository_can_be_used() {
    let names = Manifest::names().unwrap();
    let fetched = ["cifar10", "cifar100", "fashion-mnist", "mnist", "svhn"];
    let registered = ["celeba", "compcars", "imagenet"];
    let mut expected = [fetched.as_slice(), &registered].concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for name in fetched {
        let manifest = Manifest::find(name).unwrap();
        assert!(manifest.register.is_none() && manifest.bytes() > 10_000_000, "{name}");
        for download in &manifest.downloads {
            assert!(download.urls.iter().all(|url| url.starts_with("http")), "{name}");
        }
    }
    for name in registered {
        let register = Manifest::find(name).unwrap().register.unwrap();
        assert!(register.url.starts_with("https://") && register.how.lines().count() > 2, "{name}");
    }
    let said = Manifest::find("cifar-10").unwrap_err().to_string();
    assert!(said.contains("\"cifar-10\"") && said.contains("cifar10, cifar100"), "{said}");
}

#[test]
fn manifests_that_cannot_be_are_refused() {
    let hash = "0".repeat(64);
    let md5 = "0".repeat(32);
    let gz = format!("urls = [\"http://h/f.gz\"]\nbytes = 1\nsha256 = \"{hash}\"\n");
    let tar = format!("{gz}unpack = \"tar.gz\"\n");
    let register = "[register]\nurl = \"\"\nhow = \"\"\n";
    for (text, expected) in [
        (String::new(), "either [[download]] or [register]"),
        (format!("[[download]]\n{gz}{register}"), "either [[download]] or [register]"),
        ("[[download]]\nurls = [\"http://h/f\"]\nbytes = 1".into(), "needs `md5` or `sha256`"),
        (format!("[[download]]\nurls = []\nbytes = 1\nmd5 = \"{md5}\""), "needs `urls`"),
        (format!("[[download]]\nurls = [\"http://h/..\"]\nbytes = 1\nmd5 = \"{md5}\""), "leave"),
        (
            format!(
                "[[download]]\nurls = [\"http://h/a\", \"http://h/b\"]\nbytes = 1\nmd5 = \"{md5}\""
            ),
            "different names",
        ),
        ("[[download]]\nurls = [\"http://h/f\"]\nbytes = 1\nmd5 = \"12\"".into(), "is no MD5"),
        (format!("[[download]]\n{gz}size = 3"), "unknown field"),
        (format!("[[download]]\n{gz}unpack = \"zip\""), "unknown variant"),
        (format!("[[download]]\n{gz}files = [{{ path = \"f\" }}]"), "not unpacked"),
        (format!("[[download]]\n{gz}unpack = \"gzip\""), "unpacks to one"),
        (format!("[[download]]\n{tar}"), "needs `files`"),
        (format!("[[download]]\n{tar}files = [{{ path = \"f\" }}]"), "in one folder"),
        (
            format!("[[download]]\n{tar}files = [{{ path = \"a/f\" }}, {{ path = \"b/f\" }}]"),
            "in one folder",
        ),
        (format!("[[download]]\n{tar}files = [{{ path = \"a/../../f\" }}]"), "may not leave"),
        (
            format!(
                "{register}[[register.folders]]\npath = \"/etc\"\nsuffix = \"\"\nfiles = 1\nsubfolders = [0]"
            ),
            "may not leave",
        ),
    ] {
        let head = "name = \"n\"\ntitle = \"\"\nhomepage = \"\"\nlicence = \"\"\nlayout = \"\"\n";
        let said = Manifest::parse(&format!("{head}{text}")).map(|_| ()).expect_err(&text);
        let said = format!("{said:#}");
        assert!(said.contains(expected), "{text}\n{said}");
    }
}
