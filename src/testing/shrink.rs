//! Cuts a list down to what a failure needs of it.

/// Leaves out parts of `list` for as long as `still` says that the rest does as well: half of it at
/// once at first, then ever less, down to one by one. What is asked last and accepted is what is left.
pub(super) fn leave_out<T: Clone>(mut list: Vec<T>, mut still: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut size = list.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < list.len() {
            let mut rest = list.clone();
            rest.drain(at..(at + size).min(list.len()));
            if still(&rest) {
                list = rest;
            } else {
                at += size;
            }
        }
        if size == 1 {
            return list;
        }
        size = size.div_ceil(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_left_wherever_it_stands() {
        for (one, other) in [(0, 99), (17, 18), (50, 50), (98, 99)] {
            let mut runs = 0;
            let left = leave_out((0..100).collect(), |rest: &[u32]| {
                runs += 1;
                rest.contains(&one) && rest.contains(&other)
            });
            let mut matters = vec![one, other];
            matters.dedup();
            assert_eq!(left, matters);
            assert!(runs < 60, "{runs}");
        }
        assert!(leave_out(vec![1, 2, 3], |_| true).is_empty());
        assert_eq!(leave_out(vec![1_u8, 2, 3], |_| false), [1_u8, 2, 3]);
        assert!(leave_out(Vec::<u8>::new(), |_| false).is_empty());
    }
}
