//! SPDX licence expressions, as far as crates use them.

/// True if the expression can be satisfied with licences that `permitted` accepts: one side of each OR, both of each AND.
///
/// Reads the old `/` of crates.io as OR.
pub(crate) fn satisfied(expression: &str, permitted: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens = spaced.split_whitespace().peekable();
    let answer = any(&mut tokens, permitted);
    assert!(tokens.next().is_none(), "cannot read the licence {expression:?}");
    answer
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(tokens: &mut Tokens<'_>, permitted: &dyn Fn(&str) -> bool) -> bool {
    let mut answer = all(tokens, permitted);
    while tokens.next_if_eq(&"OR").is_some() {
        answer |= all(tokens, permitted);
    }
    answer
}

fn all(tokens: &mut Tokens<'_>, permitted: &dyn Fn(&str) -> bool) -> bool {
    let mut answer = one(tokens, permitted);
    while tokens.next_if_eq(&"AND").is_some() {
        answer &= one(tokens, permitted);
    }
    answer
}

fn one(tokens: &mut Tokens<'_>, permitted: &dyn Fn(&str) -> bool) -> bool {
    match tokens.next() {
        Some("(") => {
            let answer = any(tokens, permitted);
            assert_eq!(tokens.next(), Some(")"), "a licence's parenthesis is not closed");
            answer
        }
        Some(licence) => {
            let exception = tokens.next_if_eq(&"WITH").and_then(|_| tokens.next());
            permitted(&exception.map_or_else(|| licence.to_owned(), |name| format!("{licence} WITH {name}")))
        }
        None => false,
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let permitted = |licence: &str| ["MIT", "Zlib"].contains(&licence);
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(GPL-3.0 OR MIT) AND Zlib", "GPL-3.0 OR MIT AND Zlib"] {
        assert!(satisfied(good, &permitted), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT WITH Odd-exception", "(MIT OR Zlib) AND GPL-3.0"] {
        assert!(!satisfied(bad, &permitted), "{bad}");
    }
}
