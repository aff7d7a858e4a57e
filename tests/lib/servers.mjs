// SPDX-License-Identifier: MIT
// servers: lighttpd, Apache and nginx in front of a Site's broker and tunnel.
//
// Each includes its sample of deploy/, as a site would, and has an access log,
// so that the search for secrets (harness.mjs) covers that too.
import fs from "node:fs";
import path from "node:path";
import { spawnSync } from "node:child_process";

import { find_program, free_port, srcdir, tcp_listening } from "./harness.mjs";

export const NAMES = ["lighttpd", "apache", "nginx"];
export const FRONTS = ["direct", ...NAMES];

// The sample of deploy/ for this server, with the site's sockets.
function sample(site, name) {
	const text = fs.readFileSync(
	    path.join(srcdir, `deploy/${name}.conf.in`), "utf8");
	return text.replaceAll("@tunnel_socket@", site.tunnel_sock)
	    .replaceAll("@broker_socket@", site.broker_sock);
}

function lighttpd_config(site, port, { tls, uris }) {
	return `
server.modules = ("mod_accesslog"${tls ? ', "mod_openssl"' : ""})
server.document-root = "${site.dir}"
mimetype.assign = (".html" => "text/html", ".mjs" => "text/javascript",
    ".js" => "text/javascript")
server.bind = "127.0.0.1"
server.port = ${port}
server.errorlog = "${site.file("lighttpd-error.log")}"
accesslog.filename = "${site.file("lighttpd-access.log")}"
${uris ? 'accesslog.format = "%h %t %m %U %>s"' : ""}
${tls ? `ssl.engine = "enable"
ssl.pemfile = "${tls.cert}"
ssl.privkey = "${tls.key}"` : ""}
${sample(site, "lighttpd")}
`;
}

const APACHE_MODULES = ["/usr/lib/apache2/modules", "/usr/lib/httpd/modules"]
    .find((dir) => fs.existsSync(dir));

function apache_config(site, port, { tls, uris }) {
	const has = (name) =>
	    fs.existsSync(path.join(APACHE_MODULES, `mod_${name}.so`));
	const modules = [has("mpm_event") ? "mpm_event" : "mpm_prefork",
	    "authz_core", "setenvif", "rewrite", "proxy", "proxy_http",
	    "proxy_fcgi", ...tls ? ["ssl", "socache_shmcb"] : []];
	return `
ServerRoot "${site.dir}"
ServerName localhost
PidFile "${site.file("apache.pid")}"
DefaultRuntimeDir "${site.dir}"
Mutex file:${site.dir} default
ErrorLog "${site.file("apache-error.log")}"
LogLevel warn ${uris ? "core:crit" : ""}
Listen 127.0.0.1:${port}
${modules.map((m) =>
    `LoadModule ${m}_module ${APACHE_MODULES}/mod_${m}.so`).join("\n")}
${process.getuid() === 0 ? "User www-data\nGroup www-data" : ""}
StartServers 1
ServerLimit 4
MaxRequestWorkers 100
DocumentRoot "${site.dir}"
LogFormat "%h %t \\"%r\\" %>s" common
CustomLog "${site.file("apache-access.log")}" common ${uris ?
	    `"expr=-z reqenv('culvert_tunnel') && %{REQUEST_STATUS} -ne 400 ` +
	    '&& %{REQUEST_STATUS} -ne 414"' : "env=!culvert_tunnel"}
<VirtualHost 127.0.0.1:${port}>
${tls ? `SSLEngine on
SSLCertificateFile "${tls.cert}"
SSLCertificateKeyFile "${tls.key}"` : ""}
${sample(site, "apache")}
</VirtualHost>
`;
}

function nginx_config(site, port, { tls, uris }) {
	return `
${process.getuid() === 0 ? "user www-data;" : ""}
daemon off;
worker_processes 1;
pid ${site.file("nginx.pid")};
error_log ${site.file("nginx-error.log")} notice;
events { worker_connections 4096; }
http {
	log_format uris '$remote_addr [$time_local] "$uri" $status';
	access_log ${site.file("nginx-access.log")} ${uris ? "uris" : ""};
	client_body_temp_path ${site.file("nginx-body")};
	proxy_temp_path ${site.file("nginx-proxy")};
	fastcgi_temp_path ${site.file("nginx-fastcgi")};
	uwsgi_temp_path ${site.file("nginx-uwsgi")};
	scgi_temp_path ${site.file("nginx-scgi")};
	server {
		listen 127.0.0.1:${port}${tls ? " ssl" : ""};
		root ${site.dir};
		${tls ? `ssl_certificate ${tls.cert};
		ssl_certificate_key ${tls.key};` : ""}
${sample(site, "nginx")}
	}
}
`;
}

const SERVERS = {
	lighttpd: {
		config: lighttpd_config,
		argv: (file) => [find_program("lighttpd"), "-D", "-f", file],
	},
	apache: {
		config: apache_config,
		argv: (file) =>
		    [find_program("apache2"), "-DFOREGROUND", "-f", file],
	},
	nginx: {
		config: nginx_config,
		argv: (file, site) => [find_program("nginx"), "-p", site.dir,
		    "-c", file, "-e", site.file("nginx-error.log")],
	},
};

// Start one; its front connects to 127.0.0.1 as a client would.  uris: it logs
// no queries, as the sample says that it can.  edit makes another configuration
// of the good one.
export async function start(site, name,
    { tls, uris, edit = (text) => text } = {}) {
	const server = SERVERS[name];
	for (let attempt = 0; ; attempt++) {
		const port = await free_port();
		const file = site.write(`${name}.conf`,
		    edit(server.config(site, port, { tls, uris })));
		for (const dir of ["body", "proxy", "fastcgi", "uwsgi", "scgi"])
			fs.mkdirSync(site.file(`nginx-${dir}`), { recursive: true });
		const part = site.start(name, server.argv(file, site));
		part.may_fail = true; // its exit status is its own affair
		part.hard = true;
		try {
			await part.listens(() => tcp_listening(port), "listens");
		} catch (err) {
			if (attempt < 4 && /in use|bind/i.test(part.output))
				continue;
			throw err;
		}
		return {
			name, port, part,
			restart: () => restart(site, name, port, file),
			where: { port, ...tls ? { tls: { ca: fs.readFileSync(tls.ca),
			    servername: "localhost" } } : {} },
			headers: { Host: `127.0.0.1:${port}` },
		};
	}
}

// The same again, after its end.
async function restart(site, name, port, file) {
	const part = site.start(name, SERVERS[name].argv(file, site));
	part.may_fail = true;
	part.hard = true;
	await part.listens(() => tcp_listening(port), "listens");
	return part;
}

// A throw-away certification authority and a certificate of it.  Options:
// names (subjectAltName), expired, other_ca.
export function make_certificates(site, prefix, options = {}) {
	const file = (name) => site.file(`${prefix}-${name}`);
	const names = options.names ?? "DNS:localhost,IP:127.0.0.1";
	const openssl = (...args) => {
		const r = spawnSync("openssl", args, { encoding: "utf8" });
		if (r.status !== 0)
			throw new Error(`openssl ${args[0]}: ${r.stderr}`);
	};

	openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
	    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file("ca.key"),
	    "-out", file("ca.pem"), "-days", "2", "-subj", "/CN=test authority",
	    "-addext", "basicConstraints=critical,CA:true",
	    "-addext", "keyUsage=critical,keyCertSign,cRLSign");
	openssl("req", "-new", "-newkey", "ec", "-pkeyopt",
	    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file("key.pem"),
	    "-out", file("csr.pem"), "-subj", "/CN=server");
	fs.writeFileSync(file("ext"), `subjectAltName=${names}\n` +
	    "basicConstraints=CA:false\n");
	openssl("x509", "-req", "-in", file("csr.pem"), "-CA", file("ca.pem"),
	    "-CAkey", file("ca.key"), "-CAcreateserial", "-out",
	    file("cert.pem"), "-extfile", file("ext"),
	    ...(options.expired ? ["-days", "-1"] : ["-days", "2"]));
	fs.chmodSync(file("key.pem"), 0o644);
	return { ca: file("ca.pem"), cert: file("cert.pem"),
	    key: file("key.pem") };
}
