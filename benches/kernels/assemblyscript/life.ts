// The game of life on a torus of 128 x 128.

const SIZE = 128;

function step(from: Uint8Array, to: Uint8Array): void {
  for (let y = 0; y < SIZE; ++y) {
    const above = ((y + SIZE - 1) & (SIZE - 1)) * SIZE, here = y * SIZE, below = ((y + 1) & (SIZE - 1)) * SIZE;
    for (let x = 0; x < SIZE; ++x) {
      const left = (x + SIZE - 1) & (SIZE - 1), right = (x + 1) & (SIZE - 1);
      const count =
        from[above + left] + from[above + x] + from[above + right] +
        from[here + left] + from[here + right] +
        from[below + left] + from[below + x] + from[below + right];
      to[here + x] = u8(count == 3 || (count == 2 && from[here + x] == 1));
    }
  }
}

export function run(): i64 {
  let now = new Uint8Array(SIZE * SIZE), next = new Uint8Array(SIZE * SIZE);
  let random: u32 = 2463534242;
  for (let i = 0; i < now.length; ++i) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    now[i] = u8(random & 1);
  }
  for (let i = 0; i < 60; ++i) {
    step(now, next);
    const swap = now;
    now = next;
    next = swap;
  }
  let sum: i64 = 0;
  for (let i = 0; i < now.length; ++i) sum = sum * 3 + now[i];
  return sum;
}
