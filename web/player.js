// SPDX-License-Identifier: MIT
// player: plays PCM of 16 bits, 24 kHz, mono, as it comes in.

const RATE = 24000;

export class Player {
  #context = null;
  #gain = null;
  #sources = new Set();
  #end = 0; // when what is queued has been played, in the context's time
  #muted = false;

  // To be called in an event of the user: browsers allow no sound else.
  unlock() {
    if (this.#context === null) {
      this.#context = new AudioContext({ sampleRate: RATE });
      this.#gain = this.#context.createGain();
      this.#gain.gain.value = this.#muted ? 0 : 1;
      this.#gain.connect(this.#context.destination);
    }
    this.#context.resume().catch(() => {});
  }

  set muted(value) {
    this.#muted = value;
    if (this.#gain !== null)
      this.#gain.gain.value = value ? 0 : 1;
  }

  // Queue a chunk of base64; returns its length in seconds.
  play(base64) {
    const samples = decode(base64);
    if (this.#context === null || samples.length === 0)
      return samples.length / RATE;
    const buffer = this.#context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#gain);
    // a little ahead at the start, so that a late chunk leaves no gap
    this.#end = Math.max(this.#end, this.#context.currentTime + 0.08);
    source.start(this.#end);
    this.#end += buffer.duration;
    this.#sources.add(source);
    source.onended = () => this.#sources.delete(source);
    return buffer.duration;
  }

  stop() {
    for (const source of this.#sources)
      source.stop();
    this.#sources.clear();
    this.#end = 0;
  }
}

function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const samples = new Float32Array(bytes.length >> 1);
  for (let i = 0; i < samples.length; i++)
    samples[i] = view.getInt16(2 * i, true) / 32768;
  return samples;
}
