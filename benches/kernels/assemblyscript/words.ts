// Counting words: strings, a map and a garbage collector.

export function run(): i64 {
  const words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"];
  const counts = new Map<string, i32>();
  let random: u32 = 2463534242;
  for (let i = 0; i < 6000; ++i) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    const word = words[random % 9] + words[(random >> 8) % 9];
    counts.set(word, (counts.has(word) ? counts.get(word) : 0) + i);
  }
  const keys = counts.keys().sort();
  let sum: i64 = 0;
  for (let i = 0; i < keys.length; ++i) {
    sum = sum * 31 + counts.get(keys[i]) + keys[i].charCodeAt(keys[i].length - 1);
  }
  return sum;
}
