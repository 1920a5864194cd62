// The differential test's routes in Express; prints its port, then answers with what it dispatched to.
const express = require('express');
const app = express();

const answer = (route) => (request, response) =>
  response.json([
    route,
    request.params.ns ?? (route === 'listed' ? request.query.namespace ?? '' : ''),
    request.params.name ?? '',
  ]);

app.get('/api/namespaces/:ns/runs', answer('runs'));
app.get('/api/namespaces/:ns/runs/:name', answer('run'));
app.post('/api/namespaces/:ns/runs/:name/terminate', answer('terminate'));
app.get('/list', answer('listed'));
app.all('/notebook/:ns/:name/*', answer('notebook'));
app.all('/admin', answer('admin'));
app.get('/files/*', answer('files'));
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
