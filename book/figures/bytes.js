// Texts back to the numbers that odelib/book/play.py packed into them.

/** The bytes behind a text of base64, which were compressed by zlib. */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The number whose 16 bits (sign, 5 of exponent, 10 of fraction) stand in two bytes. */
function half(low, high) {
  const [sign, exponent, fraction] = [high & 128 ? -1 : 1, (high >> 2) & 31, ((high & 3) << 8) | low];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
