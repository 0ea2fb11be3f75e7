//! What a voice call means, as a pure session client.
