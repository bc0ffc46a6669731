/** SHA-256, the tree of RFC 6962 and Ed25519, all by the browser's own WebCrypto. */

const UTF8 = new TextEncoder();

export function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
  const found = new Uint8Array(hex.length / 2);
  for (let at = 0; at < found.length; at += 1) found[at] = Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16);
  return found;
}

export function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function sha256(...parts: (string | Uint8Array)[]): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = parts.map((part) => (typeof part === "string" ? UTF8.encode(part) : part));
  const joined = new Uint8Array(bytes.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of bytes) {
    joined.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined));
}

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export function leafHash(content: string): Promise<Uint8Array<ArrayBuffer>> {
  return sha256(LEAF, content);
}

export async function treeRoot(leaves: readonly Uint8Array[]): Promise<Uint8Array> {
  if (leaves.length < 2) return leaves[0] ?? sha256("");
  let half = 1;
  while (half * 2 < leaves.length) half *= 2;
  return sha256(NODE, await treeRoot(leaves.slice(0, half)), await treeRoot(leaves.slice(half)));
}

/** The root that an inclusion proof leads to (RFC 9162, 2.1.3.2); null if the path has the wrong length for this index. */
export async function rootOfPath(leaf: Uint8Array, index: number, size: number, path: readonly Uint8Array[]): Promise<Uint8Array | null> {
  if (index < 0 || index >= size) return null;
  const half = (n: number) => Math.floor(n / 2);
  let [node, last, found] = [index, size - 1, leaf];
  for (const sibling of path) {
    if (last === 0) return null;
    if (node % 2 === 1 || node === last) {
      found = await sha256(NODE, sibling, found);
      while (node % 2 === 0 && node > 0) [node, last] = [half(node), half(last)];
    } else {
      found = await sha256(NODE, found, sibling);
    }
    [node, last] = [half(node), half(last)];
  }
  return last === 0 ? found : null;
}

/** Whether the key signed this text; null if this browser has no Ed25519. */
export async function isSignature(publicKey: string, signature: string, text: string): Promise<boolean | null> {
  try {
    const key = await crypto.subtle.importKey("raw", bytesOf(publicKey), { name: "Ed25519" }, false, ["verify"]);
    return await crypto.subtle.verify({ name: "Ed25519" }, key, bytesOf(signature), UTF8.encode(text));
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotSupportedError") return null;
    if (error instanceof DOMException) return false; // the bytes are no key
    throw error;
  }
}

/** Why this browser cannot verify anything; empty if it can. */
export function whyNoCrypto(): string {
  return globalThis.crypto?.subtle === undefined
    ? "This browser gives its cryptography only to pages that came over HTTPS or from this machine. Open the page over HTTPS, or use aragora-cp receipts verify."
    : "";
}
