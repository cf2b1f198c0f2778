// A proof of work: find a number so that the SHA-256 of "<puzzle>.<number>" begins with zero bits.

// `header` is "work;bits=12;puzzle=…", as the refusal carries it; returns "<puzzle>.<number>".
export async function solve(header) {
  const [, bits, puzzle] = header.match(/^work;bits=(\d+);puzzle=([\w-]+)$/);
  for (let number = 0; ; number += 1) {
    const answer = `${puzzle}.${number}`;
    if (await zeroBits(answer) >= Number(bits)) return answer;
  }
}

async function zeroBits(text) {
  const digest = new DataView(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Math.clz32(digest.getUint32(0));
}
