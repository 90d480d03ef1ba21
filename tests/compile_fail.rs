//! Types that no slot can carry do not compile, nor do two tasks on one half, and the compiler says why.

#![cfg(target_os = "linux")]

#[test]
fn types_that_do_not_fit_are_refused_by_the_compiler() {
    let cases = trybuild::TestCases::new();
    // A case that passes makes trybuild build the others too: sizes are known only then.
    cases.pass("tests/compile_fail/fits.rs");
    cases.compile_fail("tests/compile_fail/zero_sized.rs");
    cases.compile_fail("tests/compile_fail/overaligned.rs");
    cases.compile_fail("tests/compile_fail/not_pod.rs");
}

#[cfg(feature = "tokio")]
#[test]
fn two_tasks_on_one_half_are_refused_by_the_compiler() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/two_tasks*.rs");
}
