//! Ids as paths: what is above, below and within what.

use super::definition::absolute;

/// `/`, `/a` and `/a/b` for `/a/b/c`.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| path.get(..at).filter(|above| !above.is_empty()).unwrap_or("/"))
}

/// Whether a path is a group's own or below it.
pub(crate) fn is_within(path: &str, group: &str) -> bool {
    let rest = path.strip_prefix(group.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An id as it is meant in a group: relative ids are below it.
pub(crate) fn below(base: &str, id: &str) -> String {
    if id.starts_with('/') { absolute(id) } else { absolute(&format!("{base}/{id}")) }
}

/// The group that a path lies in.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(above, _)| if above.is_empty() { "/" } else { above })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_above_a_path_end_at_the_root() {
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/", "/a", "/a/b"]);
        assert_eq!(ancestors("/a").collect::<Vec<_>>(), ["/"]);
        assert_eq!(ancestors("/").collect::<Vec<_>>(), ["/"]);
    }

    #[test]
    fn a_relative_id_is_below_its_base_and_a_parent_is_one_segment_up() {
        assert_eq!((below("/a", "b").as_str(), below("/a", "../c").as_str()), ("/a/b", "/c"));
        assert_eq!((below("/", "b").as_str(), below("/a", "/b").as_str()), ("/b", "/b"));
        assert_eq!((parent("/a/b"), parent("/a"), parent("/")), ("/a", "/", "/"));
    }

    #[test]
    fn a_path_is_within_a_group_by_whole_segments() {
        for (path, group, within) in
            [("/a/b", "/a", true), ("/a", "/a", true), ("/ab", "/a", false), ("/a", "/", true), ("/", "/", true)]
        {
            assert_eq!(is_within(path, group), within, "{path} {group}");
        }
    }
}
