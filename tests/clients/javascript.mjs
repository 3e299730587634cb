// The official JavaScript client does real work: node javascript.mjs MODULES, the folder that holds its package.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(`${process.argv[2]}/none.js`));
const k8s = await import(pathToFileURL(require.resolve('@kubernetes/client-node')));
const { version } = JSON.parse(execFileSync('cat', [`${process.argv[2]}/@kubernetes/client-node/package.json`]));

const namespace = 'javascript';
const pods = process.env.PODS === 'yes';
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const extensions = config.makeApiClient(k8s.ApiextensionsV1Api);
const anything = k8s.KubernetesObjectApi.makeApiClient(config);

let failed = 0;
async function step(name, work, needsPods = false) {
    if (needsPods && !pods) return console.log(`  skipped ${name} (no node runs pods)`);
    try {
        await work();
        console.log(`  ok      ${name}`);
    } catch (error) {
        failed += 1;
        console.log(`  FAILED  ${name}: ${error.stack ?? error}`);
    }
}
async function eventually(what, condition, seconds = 60) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
        const value = await condition();
        if (value) return value;
        if (Date.now() > end) throw new Error(`${what}: not within ${seconds} seconds`);
        await sleep(100);
    }
}
const refused = (code) => (error) => error.code === code;
const as = (strategy) => k8s.setHeaderOptions('Content-Type', strategy);
const configMap = (name, data) => ({ metadata: { name, labels: { group: 'javascript' } }, data });
const patch = (name, body, strategy, more = {}) =>
    core.patchNamespacedConfigMap({ name, namespace, body, ...more }, as(strategy));
function collect() {
    const stream = new PassThrough();
    let text = '';
    stream.on('data', (chunk) => (text += chunk));
    return { stream, text: () => text };
}

console.log(`@kubernetes/client-node ${version}`);

await step('create, read, list, replace, delete', async () => {
    await core.createNamespace({ body: { metadata: { name: namespace } } });
    const made = await core.createNamespacedConfigMap({ namespace, body: configMap('one', { a: '1' }) });
    assert.equal(made.data.a, '1');
    assert.ok(made.metadata.creationTimestamp instanceof Date);
    await assert.rejects(core.createNamespacedConfigMap({ namespace, body: configMap('one') }), refused(409));
    const read = await core.readNamespacedConfigMap({ name: 'one', namespace });
    read.data.a = '2';
    const replaced = await core.replaceNamespacedConfigMap({ name: 'one', namespace, body: read });
    assert.equal(replaced.data.a, '2');
    // It is of an older version by now.
    await assert.rejects(core.replaceNamespacedConfigMap({ name: 'one', namespace, body: read }), refused(409));
    const list = await core.listNamespacedConfigMap({ namespace, labelSelector: 'group=javascript', limit: 1 });
    assert.deepEqual(list.items.map((item) => item.metadata.name), ['one']);
    await core.deleteNamespacedConfigMap({ name: 'one', namespace });
    await assert.rejects(core.readNamespacedConfigMap({ name: 'one', namespace }), refused(404));
});

await step('patches of every type, server-side apply', async () => {
    await core.createNamespacedConfigMap({ namespace, body: configMap('patched', { a: '1' }) });
    await patch('patched', [{ op: 'replace', path: '/data/a', value: '2' }], k8s.PatchStrategy.JsonPatch);
    await patch('patched', { data: { b: '1' } }, k8s.PatchStrategy.MergePatch);
    const strategic = await patch('patched', { data: { c: '1', b: null } }, k8s.PatchStrategy.StrategicMergePatch);
    assert.deepEqual(strategic.data, { a: '2', c: '1' });
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'patched' }, data: { a: '3' } };
    const apply = (force) => patch('patched', body, k8s.PatchStrategy.ServerSideApply, { fieldManager: 'mine', force });
    await assert.rejects(apply(false), refused(409));
    const applied = await apply(true);
    assert.deepEqual(applied.data, { a: '3', c: '1' });
    assert.ok(applied.metadata.managedFields.some((one) => one.manager === 'mine' && one.operation === 'Apply'));
});

await step('watch', async () => {
    const seen = [];
    const list = await core.listNamespacedConfigMap({ namespace });
    const watch = new k8s.Watch(config);
    const query = { resourceVersion: list.metadata.resourceVersion, allowWatchBookmarks: true };
    const controller = await watch.watch(`/api/v1/namespaces/${namespace}/configmaps`, query,
        (type, object) => seen.push(`${type} ${object.metadata.name}`), () => {});
    await core.createNamespacedConfigMap({ namespace, body: configMap('watched') });
    await patch('watched', { data: { a: '1' } }, k8s.PatchStrategy.MergePatch);
    await core.deleteNamespacedConfigMap({ name: 'watched', namespace });
    await eventually('three events', () => seen.length >= 3);
    controller.abort();
    assert.deepEqual(seen, ['ADDED watched', 'MODIFIED watched', 'DELETED watched']);
});

await step('an informer stays up over a restart of the server', async () => {
    const events = [];
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'group=javascript' });
    const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, 'group=javascript');
    for (const verb of ['add', 'update', 'delete']) {
        informer.on(verb, (object) => events.push(`${verb} ${object.metadata.name}`));
    }
    // As its documentation has it: whoever wants it to go on starts it again.
    informer.on('error', () => setTimeout(() => informer.start().catch(() => informer.stop()), 200));
    await informer.start();
    await core.createNamespacedConfigMap({ namespace, body: configMap('before', { a: '1' }) });
    await eventually('the first object', () => events.includes('add before'));
    execFileSync(process.env.RESTART_SERVER, { stdio: 'ignore' });
    await core.createNamespacedConfigMap({ namespace, body: configMap('after', { a: '1' }) });
    await patch('before', { data: { a: '2' } }, k8s.PatchStrategy.MergePatch);
    await eventually('what came after the restart', async () => {
        if (events.includes('add after') && informer.get('before', namespace)?.data.a === '2') return true;
        return false;
    });
    await informer.stop();
});

await step('custom objects', async () => {
    const group = 'javascript.example.com';
    const spec = {
        type: 'object',
        properties: { size: { type: 'integer', minimum: 1 }, colour: { type: 'string', _default: 'green' } },
    };
    const status = { type: 'object', properties: { turns: { type: 'integer' } } };
    const schema = { openAPIV3Schema: { type: 'object', properties: { spec, status } } };
    await extensions.createCustomResourceDefinition({ body: {
        metadata: { name: `gears.${group}` },
        spec: { group, scope: 'Namespaced', names: { kind: 'Gear', plural: 'gears' },
            versions: [{ name: 'v1', served: true, storage: true, schema, subresources: { status: {} } }] },
    } });
    const where = { group, version: 'v1', namespace, plural: 'gears' };
    const gear = (size) => ({ apiVersion: `${group}/v1`, kind: 'Gear', metadata: { name: 'one' }, spec: { size } });
    await eventually('the custom kind', () => custom.listNamespacedCustomObject(where).then(() => true, () => false));
    const made = await custom.createNamespacedCustomObject({ ...where, body: gear(1) });
    assert.equal(made.spec.colour, 'green');
    await assert.rejects(custom.createNamespacedCustomObject({ ...where, body: gear(0) }), refused(422));
    const merged = await custom.patchNamespacedCustomObject({ ...where, name: 'one', body: { spec: { size: 2 } } },
        as(k8s.PatchStrategy.MergePatch));
    assert.equal(merged.spec.size, 2);
    const told = await custom.patchNamespacedCustomObjectStatus(
        { ...where, name: 'one', body: { status: { turns: 7 } } }, as(k8s.PatchStrategy.MergePatch));
    assert.equal(told.status.turns, 7);
    // The API of whatever object finds the kind by discovery.
    const read = await anything.read({ apiVersion: `${group}/v1`, kind: 'Gear', metadata: { name: 'one', namespace } });
    assert.equal(read.spec.size, 2);
    await custom.deleteNamespacedCustomObject({ ...where, name: 'one' });
    await extensions.deleteCustomResourceDefinition({ name: `gears.${group}` });
});

await step('KubernetesObjectApi', async () => {
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'any', namespace }, data: { a: '1' } };
    await anything.create(object);
    const listed = await anything.list('v1', 'ConfigMap', namespace, undefined, undefined, undefined,
        'metadata.name=any');
    assert.equal(listed.items.length, 1);
    const read = await anything.read(object);
    read.data.a = '2';
    assert.equal((await anything.replace(read)).data.a, '2');
    const applied = await anything.patch({ ...object, data: { b: '1' } }, undefined, undefined, 'mine', true,
        k8s.PatchStrategy.ServerSideApply);
    assert.equal(applied.data.b, '1');
    await anything.delete(object);
    await assert.rejects(anything.read(object), refused(404));
});

await step('metrics: there are none', async () => {
    await assert.rejects(new k8s.Metrics(config).getNodeMetrics(), /Error occurred in metrics request/);
});

await step('health, and what the server is', async () => {
    const health = new k8s.Health(config);
    assert.equal(await health.readyz({}), true);
    assert.equal(await health.livez({}), true);
    assert.match((await config.makeApiClient(k8s.VersionApi).getCode()).gitVersion, /^v1\.36\./);
});

await step('a Deployment becomes available', async () => {
    const labels = { app: 'web' };
    await apps.createNamespacedDeployment({ namespace, body: {
        metadata: { name: 'web' },
        spec: { replicas: 1, selector: { matchLabels: labels }, template: { metadata: { labels }, spec: {
            terminationGracePeriodSeconds: 1,
            containers: [{ name: 'web', image: 'myapp:1.2.0', ports: [{ containerPort: 3000 }] }] } } },
    } });
    await eventually('an available replica', async () =>
        (await apps.readNamespacedDeploymentStatus({ name: 'web', namespace })).status.availableReplicas === 1);
}, true);

const podName = async () =>
    (await core.listNamespacedPod({ namespace, labelSelector: 'app=web' })).items[0].metadata.name;

const running = pods ? await podName() : null;

await step('exec over WebSocket, with input and exit code', async () => {
    const exec = new k8s.Exec(config);
    const run = (command, input) => new Promise((resolve, reject) => {
        const out = collect();
        const err = collect();
        exec.exec(namespace, running, 'web', command, out.stream, err.stream, input ?? null, false,
            (status) => resolve({ status, out: out.text(), err: err.text() })).catch(reject);
    });
    const told = await run(['sh', '-c', 'echo out; echo err >&2']);
    assert.deepEqual([told.out, told.err, told.status.status], ['out\n', 'err\n', 'Success']);
    const code = await run(['sh', '-c', 'exit 5']);
    assert.equal(code.status.reason, 'NonZeroExitCode');
    assert.equal(code.status.details.causes[0].message, '5');
    const echoed = await run(['head', '-n', '1'], Readable.from(['typed\n']));
    assert.equal(echoed.out, 'typed\n');
}, true);

await step('logs, followed', async () => {
    const log = new k8s.Log(config);
    const { stream, text } = collect();
    const controller = await log.log(namespace, running, 'web', stream, { follow: true, tailLines: 5 });
    await eventually('the first line', () => text().includes('listens on port 3000'));
    controller.abort();
}, true);

await step('exec with a terminal', async () => {
    const out = collect();
    out.stream.columns = 100;
    out.stream.rows = 30;
    const status = await new Promise((resolve, reject) => {
        new k8s.Exec(config).exec(namespace, running, 'web', ['sh', '-c', 'test -t 0 && test -t 1 && echo a terminal'],
            out.stream, null, new PassThrough(), true, resolve).catch(reject);
    });
    assert.equal(status.status, 'Success');
    assert.equal(out.text(), 'a terminal\r\n');
}, true);

await step('attach: what the pod says from now on', async () => {
    const command = ['sh', '-c', 'while read line; do echo "got $line"; done'];
    await core.createNamespacedPod({ namespace, body: { metadata: { name: 'attached' }, spec: {
        terminationGracePeriodSeconds: 1, restartPolicy: 'Never',
        containers: [{ name: 'main', image: 'myapp:1.2.0', command, stdin: true, stdinOnce: true }] } } });
    const phase = async () => (await core.readNamespacedPodStatus({ name: 'attached', namespace })).status.phase;
    await eventually('the pod', async () => (await phase()) === 'Running');
    const [input, out] = [new PassThrough(), collect()];
    const socket = await new k8s.Attach(config).attach(namespace, 'attached', 'main', out.stream, null, input, false);
    input.write('words\n');
    await eventually('its answer', () => out.text().includes('got words'));
    socket.close();
    // Its input ends with the one who attached.
    await eventually('its end', async () => (await phase()) === 'Succeeded');
}, true);

await step('port-forward over WebSocket', async () => {
    const forward = new k8s.PortForward(config);
    const input = new PassThrough();
    const out = collect();
    const socket = await forward.portForward(namespace, running, [3000], out.stream, null, input);
    input.write('GET /cgi-bin/index.cgi HTTP/1.0\r\n\r\n');
    await eventually('the answer', () => out.text().includes('version: 1.2.0'));
    (typeof socket === 'function' ? socket() : socket)?.close();
}, true);

await step('delete the namespace', async () => {
    await core.deleteNamespace({ name: namespace });
    await eventually('its end', () => core.readNamespace({ name: namespace }).then(() => false, refused(404)));
});

process.exit(failed ? 1 : 0);
