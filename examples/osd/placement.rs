//! Placement: every OSD draws a straw for the object, and the longest straws hold it.
//!
//! Nobody has to be asked where an object is: whoever has the map computes it. An OSD that comes or
//! goes moves only the objects whose straws it wins or loses.

use super::map::ClusterMap;

/// The OSDs that hold an object, primary first.
pub(crate) fn replicas(map: &ClusterMap, object: &str) -> Vec<u64> {
    let count = map.replicas.max(1) as usize;
    let name = hash(object);
    // Longest first; few are kept, so each new one finds its place at once.
    let mut longest: Vec<(u64, u64)> = Vec::with_capacity(count + 1);
    for osd in map.osds.keys() {
        let drawn = (straw(name, *osd), *osd);
        // Most are shorter than all that are kept.
        if longest.len() == count && longest.last() >= Some(&drawn) {
            continue;
        }
        let place = longest.partition_point(|kept| *kept > drawn);
        longest.truncate(count - 1);
        longest.insert(place, drawn);
    }
    longest.into_iter().map(|(_, osd)| osd).collect()
}

/// FNV-1a over the name.
fn hash(object: &str) -> u64 {
    object.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finalizer of splitmix64: short names spread as well as long ones.
fn straw(name: u64, osd: u64) -> u64 {
    let mut hash = name ^ osd.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(osds: u64) -> ClusterMap {
        let osds = (0..osds).map(|osd| (osd, String::new())).collect();
        ClusterMap { epoch: 1, replicas: 3, osds }
    }

    #[test]
    fn an_osd_that_leaves_moves_only_what_it_held() {
        let (five, mut four) = (map(5), map(5));
        four.osds.remove(&2);
        for n in 0..500 {
            let name = format!("object-{n}");
            let mut before = replicas(&five, &name);
            before.retain(|osd| *osd != 2);
            let after = replicas(&four, &name);
            assert_eq!(before, after[..before.len()], "{name}");
        }
    }

    #[test]
    fn primaries_are_spread() {
        let map = map(5);
        for osd in 0..5 {
            let first = (0..1000).filter(|n| replicas(&map, &format!("object-{n}"))[0] == osd);
            assert!((120..280).contains(&first.count()), "osd.{osd}");
        }
    }
}
