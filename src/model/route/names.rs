//! Finds the sites that a route takes among many, without asking about each.

use std::cell::OnceCell;

use super::{Patterns, Route};

/// The names of many sites, in which routes find theirs. With 200 routes and 20,000
/// sites, to ask each route about each site takes a second or two.
#[derive(Debug, Default)]
pub struct SiteNames<S> {
    /// Of each site the upstream's id and the customer's.
    sites: Vec<[S; 2]>,
    /// Every name, by its site and its place there, in the order of the names.
    sorted: OnceCell<Vec<(usize, usize)>>,
}

impl<S: AsRef<str>> FromIterator<[S; 2]> for SiteNames<S> {
    fn from_iter<I: IntoIterator<Item = [S; 2]>>(sites: I) -> Self {
        Self {
            sites: sites.into_iter().collect(),
            sorted: OnceCell::new(),
        }
    }
}

impl<S: AsRef<str>> SiteNames<S> {
    fn name(&self, (site, which): (usize, usize)) -> &str {
        let names = self.sites.get(site);
        let name = names.and_then(|names| names.get(which));
        name.map_or("", AsRef::as_ref)
    }

    fn sorted(&self) -> &[(usize, usize)] {
        self.sorted.get_or_init(|| {
            let sites = 0..self.sites.len();
            let names = sites.flat_map(|site| [(site, 0), (site, 1)]);
            let mut sorted: Vec<_> = names.filter(|at| !self.name(*at).is_empty()).collect();
            sorted.sort_unstable_by(|one, other| self.name(*one).cmp(self.name(*other)));
            sorted
        })
    }

    /// Whether a site has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.found(name, |found| found == name).next().is_some()
    }

    /// Whether the name of a site begins so.
    pub(super) fn has_beginning(&self, text: &str) -> bool {
        let begins = |found: &str| found.starts_with(text);
        self.found(text, begins).next().is_some()
    }

    /// The sites with a name for which `is_match` holds: `from` and what follows it.
    fn found(&self, from: &str, is_match: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
        let sorted = self.sorted();
        let first = sorted.partition_point(|at| self.name(*at) < from);
        let rest = sorted.get(first..).unwrap_or_default();
        let found = rest.iter().take_while(move |at| is_match(self.name(**at)));
        found.map(|(site, _)| *site)
    }
}

impl Patterns {
    /// The sites that a pattern matches, in no order, some of them twice.
    fn found_in<S: AsRef<str>>(&self, names: &SiteNames<S>) -> impl Iterator<Item = usize> {
        let whole = self.whole.iter();
        let whole = whole.flat_map(|one| names.found(one, move |name| *name == **one));
        let begin = self.beginnings.iter();
        let begin = begin.flat_map(|one| names.found(one, move |name| name.starts_with(&**one)));
        whole.chain(begin)
    }
}

impl Route {
    /// The sites that the route takes, by their places in `names` and in that order.
    pub fn sites_among<S: AsRef<str>>(&self, names: &SiteNames<S>) -> Vec<usize> {
        let sites = &self.sites;
        if sites.is_everything() {
            return (0..names.sites.len()).collect();
        }
        // Whichever are fewer are looked up among the others.
        if names.sites.len() <= sites.whole.len() + sites.beginnings.len() {
            let taken = names.sites.iter().enumerate();
            let taken =
                taken.filter(|(_, [id, location])| self.takes_site(id.as_ref(), location.as_ref()));
            return taken.map(|(site, _)| site).collect();
        }
        let mut taken: Vec<usize> = sites.found_in(names).collect();
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    /// The sites whose commands go to the sink, for the programs that it takes, by their
    /// places in `names` and in that order.
    pub fn commanded_among<S: AsRef<str>>(&self, names: &SiteNames<S>) -> Vec<usize> {
        if self.takes_commands() {
            self.sites_among(names)
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Names that often are, or begin with, one another; now and then none.
    fn names() -> impl Strategy<Value = String> {
        proptest::string::string_regex("[ab]{0,4}").unwrap()
    }

    fn patterns() -> impl Strategy<Value = Vec<String>> {
        let one = proptest::string::string_regex(r"[ab]{1,3}\*?|[ab]{1,2}|c").unwrap();
        proptest::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn a_route_finds_among_many_sites_those_that_it_takes(
            patterns in patterns(),
            sites in proptest::collection::vec([names(), names()], 0..40),
        ) {
            let route = Route::parse(&patterns, &[], &[]).unwrap();
            let names: SiteNames<&String> = sites.iter().map(|[id, at]| [id, at]).collect();
            let asked: Vec<usize> = (0..sites.len())
                .filter(|site| route.takes_site(&sites[*site][0], &sites[*site][1]))
                .collect();
            prop_assert_eq!(route.sites_among(&names), asked);
        }
    }
}
