// What a program does that knows FHIR and nothing of us: writes, reads, searches, walks pages, and goes by what it is told.
// `node walk.cjs BASE KEY`, with fhir-kit-client on NODE_PATH; says what it saw as one line of JSON.
'use strict';
const Client = require('fhir-kit-client');

const [baseUrl, key] = process.argv.slice(2);
const client = new Client({ baseUrl, customHeaders: { 'x-api-key': key } });
const ids = (bundle) => (bundle.entry || []).map((entry) => entry.resource.id);
const status = (promise) => promise.then(() => 200, (error) => error.response.status);

async function walk(page, step) {
  const pages = [ids(page)];
  for (let next = await step(page); next && pages.length < 100; next = await step(next)) {
    page = next;
    pages.push(ids(page));
  }
  return { pages, last: page };
}

async function main() {
  const said = {};
  const statement = await client.capabilityStatement();
  said.fhirVersion = statement.fhirVersion;
  said.types = statement.rest[0].resource.length;

  const made = await client.create({
    resourceType: 'Patient',
    body: { resourceType: 'Patient', name: [{ family: '남궁', given: ['민수'] }], birthDate: '1974-12-25' },
  });
  const place = { resourceType: 'Patient', id: made.id };
  said.versions = [made.meta.versionId];
  const changed = await client.update({ ...place, body: { ...made, gender: 'male' } });
  said.versions.push(changed.meta.versionId);
  said.gender = (await client.read(place)).gender;
  said.before = (await client.vread({ ...place, version: '1' })).gender || 'none';
  said.history = (await client.history(place)).entry.length;

  const entry = [...Array(23).keys()].map((n) => ({
    fullUrl: `urn:uuid:00000000-0000-4000-8000-0000000000${String(n).padStart(2, '0')}`,
    request: { method: 'POST', url: 'Observation' },
    resource: {
      resourceType: 'Observation',
      status: 'final',
      code: { coding: [{ system: 'http://loinc.org', code: '8867-4' }] },
      subject: { reference: `Patient/${made.id}` },
      effectiveDateTime: `2026-01-${String(n + 1).padStart(2, '0')}`,
      valueQuantity: { value: 60 + n, unit: '/min', system: 'http://unitsofmeasure.org', code: '/min' },
    },
  }));
  const done = await client.transaction({ body: { resourceType: 'Bundle', type: 'transaction', entry } });
  said.transaction = done.entry.map((one) => one.response.status.slice(0, 3));

  const searchParams = { patient: made.id, _sort: '-date', _count: 5 };
  const first = await client.search({ resourceType: 'Observation', searchParams });
  said.total = first.total;
  const there = await walk(first, (page) => client.nextPage(page));
  said.pages = there.pages.map((page) => page.length);
  said.distinct = new Set(there.pages.flat()).size;
  const back = await walk(there.last, (page) => client.prevPage(page));
  said.back = JSON.stringify(back.pages.reverse()) === JSON.stringify(there.pages);
  const posted = await client.search({
    resourceType: 'Observation',
    searchParams: { 'value-quantity': 'gt80||/min', patient: made.id },
    options: { postSearch: true },
  });
  said.posted = posted.total;

  await client.delete(place);
  said.deleted = await status(client.read(place));
  said.unknown = await status(client.search({ resourceType: 'Patient', searchParams: { nmae: 'x' } }));
  said.nobody = await status(
    new Client({ baseUrl }).search({ resourceType: 'Patient', searchParams: { name: 'x' } }),
  );
  console.log(JSON.stringify(said));
}

main().catch((error) => {
  console.error(error.message, JSON.stringify((error.response && error.response.data) || {}));
  process.exit(1);
});
