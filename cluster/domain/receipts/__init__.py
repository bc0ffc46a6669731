"""Receipts: what a deliberation did, in a document that anyone can verify without the server.

    journal event   {n, at, kind, data}
      → split       {n, at, kind, data, text}: ``text`` holds the words, ``data`` what is left (``content``)
      → commitment  SHA-256(salt ‖ JCS(text)), with 32 bytes of salt per event
      → leaf        SHA-256(0x00 ‖ JCS({n, at, kind, data, text: commitment}))
      → root        RFC 6962 tree over the leaves (``merkle``); chain SHA-256(… SHA-256(contract hash ‖ leaf 1) … ‖ leaf n)
      → head        root, chain, tree size, contract hash, outcome and key id, signed with Ed25519 (``keys``)

``document`` makes and redacts receipts, ``verify`` checks them, ``recompute`` decides again from the signed votes.
Nothing in a receipt is outside the signature: whatever is neither hashed nor signed is derived from what is, and compared.
"""
