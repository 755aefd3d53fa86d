#!/bin/bash
# Shows that the model can fail: plants one bug at a time in a copy of the crate and runs the model.
# Usage: planted.sh [SCRATCH_DIR]   Prints per bug: instance, promise, states until found.
set -eu
root=$(cd "$(dirname "$0")/../../../.." && pwd)
scratch=${1:-$(mktemp -d)}
crate=$scratch/protocol
export CARGO_TARGET_DIR=$scratch/target CARGO_PROFILE_RELEASE_LTO=off

fresh() {
  mkdir -p "$crate"
  rm -rf "$crate/src" "$crate/tests"
  cp -r "$root/transport/protocol/src" "$crate/src"
  mkdir -p "$crate/tests"
  cp -r "$root/transport/protocol/tests/model" "$root/transport/protocol/tests/model.rs" "$crate/tests/"
  cat > "$crate/Cargo.toml" <<TOML
[package]
name = "stellate-protocol"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
bytes = "1"
crc32c = "0.6"
[dev-dependencies]
stateright = "0.31"
TOML
}

plant() { # name, then pairs of a file under src and a perl expression
  local name=$1
  fresh
  shift
  while [ $# -gt 0 ]; do
    perl -0pi -e "$2" "$crate/src/$1"
    if cmp -s "$crate/src/$1" "$root/transport/protocol/src/$1"; then
      echo "$name | NOT PLANTED: the code has changed"
      return
    fi
    shift 2
  done
  set -- "$name"
  (cd "$crate" && cargo test -q --release --test model -- --nocapture --test-threads 1 ${only:-} \
    > "$scratch/$1.out" 2>&1) || true
  if ! grep -q 'running' "$scratch/$1.out"; then
    echo "$1 | DOES NOT BUILD"
    return
  fi
  found=$(grep -o '^[a-z_]*: .* (after [0-9]* states)' "$scratch/$1.out" || true)
  echo "$1 | ${found:-SURVIVED}"
}

# Peers that keep the rules never send a duplicate: the opening trims what was received. So two.
plant duplicate_sent_and_taken session/handshake.rs \
  's/if !self\.acknowledge\(lane, state\) \{/if !self.acknowledge(lane, stellate_protocol_state(state)) {/; s/\z/\nfn stellate_protocol_state(state: crate::frame::LaneState) -> crate::frame::LaneState { crate::frame::LaneState { received: crate::id::Seq(0), ..state } }\n/' \
  session/recv_lane.rs \
  's/if message\.seq < expected \{\n\s*return Ok\(Arrival::Duplicate\);\n\s*\}//; s/if message\.seq > expected/if false \&\& message.seq > expected/; s/message\.seq\.0 != self\.received\.0 \+ 1/message.seq.0 > self.received.0 + 1/'
plant trims_one_too_many session/send_lane.rs \
  's/while self\.acked < state\.received \{/while !self.entries.is_empty() \&\& self.acked < state.received.next() \&\& state.received.0 > 0 {/'
plant keeps_its_own_id session/handshake.rs \
  's/self\.id = hello\.session;//'
plant stale_link_heard session/flow.rs \
  's/if self\.link\(\) != Some\(link\) \{\n\s*self\.counters\.stale_frames/if self.link().is_none() \&\& self.link() != Some(link) {\n            self.counters.stale_frames/'
plant cursor_not_rewound session/send_lane.rs \
  's/(pub\(crate\) fn rewind\(&mut self\) \{\n\s*)self\.sent = 0;/$1/'
plant old_attempt_let_in directory/heard.rs \
  's/heard\.is_some_and\(\|heard\| attempt <= heard\.latest\)/heard.is_some_and(|heard| attempt.0 == 0 \&\& heard.past)/'
plant insists_in_vain session/handshake.rs \
  's/Phase::Dialing => !hello\.insist,/Phase::Dialing => true,/'
plant handed_out_while_held session/flow.rs \
  's/if self\.admission\.held \{\n(\s*)self\.recv/if false {\n$1self.recv/'
