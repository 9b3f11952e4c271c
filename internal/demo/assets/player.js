// A small player on nothing but what browsers have: Media Source Extensions
// for the segments, Encrypted Media Extensions with Clear Key for DASH, Web
// Crypto for HLS AES-128.
const data = JSON.parse(document.getElementById('data').textContent);
const video = document.getElementById('video');
const cover = document.getElementById('cover');

const chosen = name => document.querySelector(`input[name=${name}]:checked`).value;

// Steps of the list beside the picture.
function step(name, state, text) {
  document.querySelector(`[data-step=${name}]`).textContent = text;
  const item = document.querySelector(`[data-step-item=${name}]`);
  if (item) item.dataset.state = state;
}

function fail(name, title, text) {
  step(name, 'failed', text);
  cover.querySelector('strong').textContent = title;
  cover.querySelector('span').textContent = text;
  cover.hidden = false;
}

class Refused extends Error {}

// get fetches, and turns a refusal into its own words.
async function get(url, how) {
  const answer = await fetch(url, how);
  if (!answer.ok) throw new Refused(`${answer.status}: ${await answer.text()}`);
  return answer;
}

// One run plays one stream; a new choice ends it.
let run = 0;

async function play() {
  const mine = ++run;
  const live = () => mine === run;
  const stream = data.streams.find(s => s.id === chosen('stream'));
  const ticket = stream.tickets[chosen('ticket')];
  const headers = ticket ? { Authorization: `Bearer ${ticket}` } : {};
  cover.hidden = true;
  for (const name of ['found', 'license', 'playing']) step(name, '', '');
  video.removeAttribute('src');
  video.load();
  await video.setMediaKeys(null).catch(() => {});
  if (!live()) return;

  if (!window.MediaSource) return fail('playing', 'This browser cannot play it.', 'It has no Media Source Extensions.');
  const media = new MediaSource();
  const open = new Promise(done => media.addEventListener('sourceopen', done, { once: true }));
  video.src = URL.createObjectURL(media);
  await open;
  if (!live()) return;
  try {
    const tracks = stream.manifest.endsWith('.mpd') ? await dash(stream) : await hls(stream, headers);
    if (!live()) return;
    if (tracks.scheme) await encrypted(tracks, headers, live);
    else step('license', 'done', `200: 16 bytes from ${tracks.keyPath}`);
    const append = tracks.list.map(t => feed(media, t));
    await Promise.all(append);
    if (live() && media.readyState === 'open') media.endOfStream();
  } catch (e) {
    if (live()) fail(e instanceof Refused ? 'license' : 'playing', 'This does not play, and it should not.', e.message);
  }
}

// dash reads as much of a manifest as ours have.
async function dash(stream) {
  const text = await (await get(stream.manifest)).text();
  const doc = new DOMParser().parseFromString(text, 'text/xml');
  const base = new URL(stream.manifest, location.href);
  const list = [...doc.querySelectorAll('AdaptationSet')].map(set => {
    const template = set.querySelector('SegmentTemplate');
    const at = name => new URL(name, base).href;
    return {
      type: `${set.getAttribute('mimeType')}; codecs="${set.querySelector('Representation').getAttribute('codecs')}"`,
      init: at(template.getAttribute('initialization')),
      segments: [...template.querySelectorAll('S')].map((_, i) => at(template.getAttribute('media').replace('$Number$', i + 1))),
    };
  });
  return { list, scheme: doc.querySelector('ContentProtection').getAttribute('value') };
}

// hls reads as much of a playlist as ours have, and fetches the key.
async function hls(stream, headers) {
  const master = await (await get(stream.manifest)).text();
  const [video, audio] = /CODECS="([^"]+)"/.exec(master)[1].split(',');
  const names = [[/\n([^#\s].*)/.exec(master)[1], 'video', video], [/TYPE=AUDIO.*URI="([^"]+)"/.exec(master)[1], 'audio', audio]];
  let keyPath;
  const list = await Promise.all(names.map(async ([name, kind, codec]) => {
    const base = new URL(name, new URL(stream.manifest, location.href));
    const text = await (await get(base)).text();
    const [, url, iv] = /#EXT-X-KEY:METHOD=AES-128,URI="([^"]+)".*IV=0x([0-9a-f]{32})/.exec(text);
    keyPath = new URL(url).pathname;
    step('found', 'done', 'EXT-X-KEY with METHOD=AES-128');
    const raw = await (await get(new URL(url).pathname, { headers })).arrayBuffer();
    const key = await crypto.subtle.importKey('raw', raw, 'AES-CBC', false, ['decrypt']);
    const vector = Uint8Array.from(iv.match(/../g), pair => parseInt(pair, 16));
    return {
      type: `${kind}/mp4; codecs="${codec}"`,
      init: new URL(/#EXT-X-MAP:URI="([^"]+)"/.exec(text)[1], base).href,
      segments: text.split('\n').filter(l => l && !l.startsWith('#')).map(l => new URL(l, base).href),
      decrypt: b => crypto.subtle.decrypt({ name: 'AES-CBC', iv: vector }, key, b),
    };
  }));
  return { list, keyPath };
}

// encrypted sets the Clear Key of the browser to work.
async function encrypted(tracks, headers, live) {
  if (!navigator.requestMediaKeySystemAccess) throw new Error('This browser has no Encrypted Media Extensions on this address.');
  const capability = t => [{ contentType: t.type, encryptionScheme: tracks.scheme }];
  const access = await navigator.requestMediaKeySystemAccess('org.w3.clearkey', [{
    initDataTypes: ['cenc'], videoCapabilities: capability(tracks.list[0]), audioCapabilities: capability(tracks.list[1]),
  }]).catch(() => { throw new Error(`This browser has no Clear Key for ${tracks.scheme}. Try another way of encryption.`); });
  const keys = await access.createMediaKeys();
  await video.setMediaKeys(keys);
  let found = 0, granted = 0;
  video.onencrypted = async event => {
    if (!live() || !event.initData) return;
    step('found', 'done', `${tracks.scheme}, ${event.initData.byteLength} bytes of pssh boxes in ${++found === 1 ? 'a track' : 'each track'}`);
    const session = keys.createSession();
    session.addEventListener('message', async message => {
      try {
        const answer = await get(data.license, { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: message.message });
        await session.update(await answer.arrayBuffer());
        if (live()) step('license', 'done', `200: ${++granted} ${granted === 1 ? 'key' : 'keys'} from ${data.license}`);
      } catch (e) {
        if (live()) fail('license', e instanceof Refused ? 'No license, no picture.' : 'This does not play.', e.message);
      }
    });
    await session.generateRequest(event.initDataType, event.initData).catch(e => fail('license', 'This does not play.', e.message));
  };
}

// feed appends a track, piece by piece.
async function feed(media, track) {
  const buffer = media.addSourceBuffer(track.type);
  for (const url of [track.init, ...track.segments]) {
    let bytes = await (await get(url)).arrayBuffer();
    if (track.decrypt && url !== track.init) bytes = await track.decrypt(bytes);
    if (media.readyState !== 'open') return;
    const done = new Promise((yes, no) => {
      buffer.addEventListener('updateend', yes, { once: true });
      buffer.addEventListener('error', () => no(new Error('The browser cannot read this media.')), { once: true });
    });
    buffer.appendBuffer(bytes);
    await done;
  }
}

video.addEventListener('timeupdate', () => {
  const frames = video.getVideoPlaybackQuality().totalVideoFrames;
  if (video.currentTime > 0 && frames) step('playing', 'done', `${video.currentTime.toFixed(1)} s, ${frames} frames decoded`);
});
video.addEventListener('error', () => { if (video.error && video.getAttribute('src')) fail('playing', 'The browser gave up.', video.error.message); });

// Tabs: what belongs to the chosen stream is shown.
function show() {
  for (const part of document.querySelectorAll('.stream')) {
    const on = part.dataset.stream === chosen('stream');
    part.hidden = !on;
    const ids = ['exchange', 'decoded'];
    part.querySelectorAll('section').forEach((s, i) => { if (on) s.id = ids[i]; else s.removeAttribute('id'); });
    if (on) for (const name of ['asked', 'answered', 'encrypted']) step(name, 'done', part.dataset[name]);
  }
}

function start(muted) {
  show();
  play();
  if (muted) video.muted = true; // browsers play by themselves only without sound
  video.play().catch(() => {});
}

for (const input of document.querySelectorAll('.choice input')) input.addEventListener('change', () => start(false));
video.autoplay = true;

for (const box of document.querySelectorAll('.reveal')) box.addEventListener('change', () => {
  document.body.classList.toggle('show-keys', box.checked);
  for (const other of document.querySelectorAll('.reveal')) other.checked = box.checked;
});

document.getElementById('theme').addEventListener('click', () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  localStorage.setItem('theme', root.dataset.theme);
});

start(true);
